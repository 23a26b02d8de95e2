// Asks once before anything is changed, says what it will do, and what came of it.

const box = document.getElementById("ask");
const part = (name) => document.getElementById(`ask-${name}`);
let order = null;

/** Ask about what a button does; `done` hears in a sentence what came of it. */
export function ask(button, done) {
  const { path, body, tells, yes, match, times } = button.dataset;
  order = { path, body: JSON.parse(body), match, times: times !== undefined, done };
  part("title").textContent = button.dataset.ask;
  part("tells").textContent = tells;
  part("yes").textContent = yes;
  part("times").hidden = !order.times;
  part("for").value = "";
  part("error").textContent = "";
  part("yes").disabled = false;
  box.showModal();
  part("no").focus();
}

part("no").addEventListener("click", () => box.close());
box.addEventListener("click", (event) => event.target === box && box.close());
box.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { path, body, match, times, done } = order;
  if (times && part("for").value) body.for = part("for").value;
  part("yes").disabled = true;
  part("error").textContent = "";
  try {
    const headers = { "content-type": "application/json", accept: "application/json" };
    if (match) headers["if-match"] = match;
    const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    const told = await answer.json();
    if (answer.ok) {
      box.close();
      done(`Done: ${part("title").textContent.replace(/\?$/, "")}.`);
      return;
    }
    part("error").textContent = `${told.detail} ${told.remedy ?? ""}`;
    done("");
  } catch {
    part("error").textContent = "The daemon does not answer. Nothing is known of what came of it.";
    part("yes").disabled = false;
  }
});
