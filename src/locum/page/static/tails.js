// What agents write, as they write it: a few lines at the end of each task at work.

const EVERY = 1000;
const LINES = 40;
let timer = 0;

/** Read on for every task at work that is shown, for as long as there is one. */
export function follow() {
  for (const box of document.querySelectorAll("pre.tail")) {
    if (box.dataset.seen === undefined) {
      box.dataset.seen = "";
      box.scrollTop = box.scrollHeight;
    }
  }
  if (!timer && document.querySelector("pre.tail")) timer = setTimeout(read, EVERY);
}

async function read() {
  if (!document.hidden) {
    for (const box of document.querySelectorAll("pre.tail")) {
      try {
        await one(box);
      } catch {
        break; // the daemon does not answer: what says so stands at the top
      }
    }
  }
  timer = 0;
  follow();
}

async function one(box) {
  const { task, after } = box.dataset;
  const answer = await fetch(`/page/said/of/${encodeURIComponent(task)}?after=${after}`);
  if (!answer.ok) return;
  const said = await answer.json();
  if (!box.isConnected || String(said.run) !== box.dataset.run || !said.lines.length) {
    box.dataset.after = said.after;
    return;
  }
  const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
  const lines = box.textContent ? box.textContent.split("\n") : [];
  box.textContent = [...lines, ...said.lines.map(plain)].slice(-LINES).join("\n");
  box.dataset.after = said.after;
  if (atEnd) box.scrollTop = box.scrollHeight;
}

/** Text without what would steer, as the daemon shows it. */
function plain(text) {
  return text
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (each) => String.fromCharCode(0x2400 + each.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]/g, "\ufffd");
}
