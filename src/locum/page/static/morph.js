// Makes one tree of nodes equal another and keeps every node that can stay, so that focus, scroll and what is open stay.

/** Make `old` equal to `fresh`. What carries data-keep is the page's own and is left alone. */
export function morph(old, fresh) {
  attributes(old, fresh);
  const stays = new Set([...fresh.children].map((node) => node.id));
  const known = new Map();
  for (const node of [...old.children]) {
    if (node.id && !stays.has(node.id)) node.remove();
    else if (node.id) known.set(node.id, node);
  }
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const own = wanted.id ? known.get(wanted.id) : undefined;
    if (own) {
      known.delete(wanted.id);
      if (own !== at) old.insertBefore(own, at);
      else at = at.nextSibling;
      renew(own, wanted);
    } else if (at && !(at.id && known.has(at.id)) && alike(at, wanted) && !wanted.id) {
      const same = at;
      at = at.nextSibling;
      renew(same, wanted);
    } else {
      old.insertBefore(document.importNode(wanted, true), at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && !one.id;
}

function renew(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else if (old.dataset.keep !== undefined) {
    if (old.id === "chart-box") old.dataset.chain = fresh.dataset.chain;
  } else if (old.dataset.as !== undefined && old.getAttribute("datetime") === fresh.getAttribute("datetime")) {
    // A moment that is shown already, and counted down here.
  } else if (old.dataset.task !== undefined && old.dataset.run === fresh.dataset.run) {
    // What an agent writes: it is read on from here.
  } else if (!old.isEqualNode(fresh)) {
    morph(old, fresh);
  }
}

function attributes(old, fresh) {
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
}
