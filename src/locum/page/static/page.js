// Keeps the page current: what the daemon renders anew is laid over what is there, node by node.
import { ask } from "./ask.js";
import { tick } from "./times.js";
import { morph } from "./morph.js";
import { follow } from "./tails.js";
import { chart } from "./chart.js";

const SOONEST = 150; // ms between two looks
const heard = document.getElementById("heard");
let told = "";
let looking = false;
let again = false;
let last = 0;

/** Says something to those who cannot see it. */
function tell(text) {
  if (text && text !== told) heard.textContent = told = text;
}

/** What the first sentence says, without how long it is until then. */
function sentence() {
  return document.getElementById("now")?.textContent.trim() ?? "";
}

/** Have the daemon render the page anew, and lay that over this one; never twice at once. */
async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  try {
    do {
      again = false;
      const wait = last + SOONEST - performance.now();
      if (wait > 0) await new Promise((done) => setTimeout(done, wait));
      last = performance.now();
      const text = await fetched();
      if (text) lay(text);
    } while (again);
  } finally {
    looking = false;
  }
}

/** The page as it is now; nothing when the daemon does not give it. */
async function fetched() {
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { accept: "text/html" } });
    if (answer.ok) return await answer.text();
    live(answer.status === 401 || answer.status === 403 ? "signed out" : "not live");
  } catch {
    live("not live");
  }
  return "";
}

function lay(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const script = fresh.querySelector("script[type=module]")?.getAttribute("src");
  if (script !== document.querySelector("script[type=module]").getAttribute("src")) return location.reload();
  const before = sentence();
  document.title = fresh.title;
  for (const name of ["header", "main", "footer"]) {
    morph(document.querySelector(name), fresh.querySelector(name));
  }
  tick();
  follow();
  if (sentence() !== before) tell(sentence());
  chart();
}

let state = "";
/** Says whether the page is current. */
function live(says) {
  if (says === state) return;
  state = says;
  const box = document.getElementById("live");
  box.className = says === "live" ? "live on" : "live";
  document.getElementById("live-says").textContent = says;
}

const SLOWEST = 10000; // ms between two attempts to listen
let pause = 500;
let lost = false;

/** Hear what happens. A stream that breaks is begun anew, and all that was missed is seen at once. */
function listen() {
  const stream = new EventSource("/events");
  stream.addEventListener("ready", () => {
    live("live");
    pause = 500;
    if (lost) look();
    lost = false;
  });
  for (const kind of ["event", "notice", "changed"]) stream.addEventListener(kind, () => document.hidden || look());
  stream.onerror = () => {
    stream.close();
    lost = true;
    live("connecting");
    setTimeout(listen, (pause = Math.min(2 * pause, SLOWEST)));
  };
}

document.addEventListener("visibilitychange", () => document.hidden || look());
document.addEventListener("due", look);
setInterval(() => document.hidden || look(), 60000); // windows and rates move with the time

const THEMES = ["", "light", "dark"];
function theme(chosen) {
  const root = document.documentElement;
  if (chosen) root.dataset.theme = chosen;
  else delete root.dataset.theme;
  document.querySelector("#theme span").textContent = chosen ? `Theme: ${chosen}` : "Theme: system";
}
theme(document.documentElement.dataset.theme ?? "");
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.id === "theme") {
    const now = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % THEMES.length];
    document.cookie = `theme=${now}; path=/; max-age=${now ? 31536000 : 0}; samesite=strict`;
    theme(now);
    tell(document.querySelector("#theme span").textContent);
    chart(true);
  } else if (button.dataset.ask !== undefined) {
    ask(button, (text) => {
      tell(text);
      look();
    });
  }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart(true));

/** Notices lead to /#chain/NAME and /#task/ID. */
function arrive() {
  const [, what, name] = location.hash.match(/^#(chain|task)\/(.+)$/) ?? [];
  if (what) location.replace(`/?${what}=${name}${what === "task" ? "#opened" : ""}`);
}
arrive();
addEventListener("hashchange", arrive);

tick();
setInterval(tick, 1000);
listen();
follow();
const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));
idle(() => chart());
