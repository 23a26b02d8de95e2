// Moments as the reader's own clock tells them, and how far away they are.

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** Seconds in their two largest units: 2 h 10 min. */
export function span(seconds) {
  let left = Math.max(0, Math.round(seconds));
  for (const [above, smallest] of [[86400, 3600], [3600, 60]]) {
    if (left >= above) {
      left = Math.round(left / smallest) * smallest;
      break;
    }
  }
  const parts = [];
  for (const [size, unit] of UNITS) {
    if (left >= size) parts.push(`${Math.floor(left / size)} ${unit}`);
    left %= size;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

const two = (number) => String(number).padStart(2, "0");
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** A moment as one would say it now: 14:03, Tue 14:03, 2026-12-01 14:03. */
export function moment(at, now) {
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
  const day = (date) => Math.round(new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime() / 86400000);
  const days = day(at) - day(now);
  if (days === 0) return clock;
  if (days > 0 && days < 7) return `${DAYS[at.getDay()]} ${clock}`;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}

// The daemon's clock is the one that counts: the reader's may be wrong.
let shift = 0;
let sent = "";

/** Write every moment on the page as it is now; says `due` once when one has come. */
export function tick() {
  const given = document.getElementById("main").dataset.now;
  if (given !== sent) {
    sent = given;
    shift = Date.parse(given) - Date.now();
  }
  const now = new Date(Date.now() + shift);
  let come = false;
  for (const each of document.querySelectorAll("time[data-as]")) {
    const at = new Date(each.dateTime);
    const ahead = (at - now) / 1000;
    let text = moment(at, now);
    if (each.dataset.as === "until") {
      text = ahead > 0 ? `${text} (in ${span(ahead)})` : `${text} (now)`;
      if (ahead <= 0 && each.dataset.come === undefined) {
        each.dataset.come = "";
        come = true;
      }
    } else if (each.dataset.as === "ago") {
      text = `${span(-ahead)} ago`;
    }
    if (each.firstChild?.data !== text) each.textContent = text;
  }
  if (come) setTimeout(() => document.dispatchEvent(new Event("due")), 400);
}
