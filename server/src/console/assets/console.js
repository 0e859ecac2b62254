"use strict";

// Figures that update themselves. All else on the pages works without this script.
const INTERVAL = 2000;
// Longest time that an update of the overview may take, in milliseconds.
const MAX_WAIT = 5000;
const live = document.querySelector("[data-live-from]");
let isSignedOut = false;
let isUpdating = false;

function each(selector, work) {
  document.querySelectorAll(selector).forEach(work);
}

function show(figures) {
  each("[data-live]", (one) => {
    const text = figures.texts[one.dataset.live];
    if (text !== undefined && one.textContent !== text) one.textContent = text;
  });
  each("[data-line]", (one) => {
    const points = figures.lines[one.dataset.line];
    if (points !== undefined) one.setAttribute("points", points);
  });
  each("[data-block]", (one) => showBlock(one, figures.blocks[one.dataset.block]));
}

// Tables are replaced as a whole, because their rows come and go.
const shownBlocks = new Map();

function showBlock(place, text) {
  if (text === undefined || shownBlocks.get(place) === text || isSelectedIn(place)) return;
  shownBlocks.set(place, text);
  // The focus stays on the link or row in the same position.
  const targets = () => [...place.querySelectorAll("a, tbody tr")];
  const focused = targets().indexOf(document.activeElement);
  const parsed = new DOMParser().parseFromString(text, "text/html");
  place.replaceChildren(...parsed.body.childNodes);
  prepare(place);
  if (focused < 0) return;
  const target = targets()[Math.min(focused, targets().length - 1)];
  if (target) target.focus({ preventScroll: true });
}

// Whether the user selects text there, perhaps to copy it.
function isSelectedIn(place) {
  const selection = getSelection();
  return !selection.isCollapsed && place.contains(selection.anchorNode);
}

async function update() {
  if (document.hidden || isSignedOut || isUpdating) return;
  isUpdating = true;
  let isStale = true;
  try {
    // A server that hangs, or a network that drops packets, gives no answer at all.
    const signal = AbortSignal.timeout(MAX_WAIT);
    const answer = await fetch(live.dataset.liveFrom, { redirect: "error", signal });
    if (answer.status === 401) {
      // To sign in again is up to the user: at a provider that knows the browser, it would give an
      // unattended page a new session without end.
      isSignedOut = true;
      clearInterval(updates);
      live.querySelector(".stale").textContent =
        "! You are signed out. Reload the page to sign in.";
    }
    if (answer.ok) {
      show(await answer.json());
      isStale = false;
    }
  } catch {
    // The server cannot be reached.
  }
  live.querySelector(".stale").hidden = !isStale;
  isUpdating = false;
}

let updates;
if (live) {
  updates = setInterval(update, INTERVAL);
  document.addEventListener("visibilitychange", update);
}

// Times of this place, with those in UTC beside them, unless both are the same.
function showLocalTime(one) {
  const at = new Date(one.dateTime);
  const exact = one.classList.contains("utc") ? one : one.nextElementSibling;
  if (!exact || Number.isNaN(at.getTime()) || at.getTimezoneOffset() === 0) return;
  const [local, utc] = [localText(at), exact.textContent];
  const day = local.slice(0, "2026-01-01 ".length);
  exact.textContent = `${local} (${utc.startsWith(day) ? utc.slice(day.length) : utc})`;
}

function localText(at) {
  const digits = (number) => String(number).padStart(2, "0");
  const day = [at.getFullYear(), digits(at.getMonth() + 1), digits(at.getDate())].join("-");
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(digits).join(":");
  return `${day} ${time}`;
}

// Buttons that copy ids and commands.
each("[data-copy]", (one) => {
  if (!navigator.clipboard) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(one.textContent);
    button.textContent = "Copied";
  });
  one.after(button);
});

// Command lines follow the fields of the form that does the same.
each("[data-command-of]", (command) => {
  const form = document.getElementById(command.dataset.commandOf);
  form.addEventListener("input", () => {
    const flags = [...form.querySelectorAll("[data-flag]")].map((field) => {
      const value = field.value.trim();
      if (field.type === "checkbox") return field.checked ? ` ${field.dataset.flag}` : "";
      return /^\d+$/.test(value) ? ` ${field.dataset.flag} ${value}` : "";
    });
    command.textContent = command.dataset.command + flags.join("");
  });
});

// A filter for the rows of the table after it.
const filter = document.querySelector("[data-filter]");
if (filter) {
  const hidden = filter.closest("[hidden]");
  if (hidden) hidden.hidden = false;
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    each("[data-filtered] tbody tr", (row) => {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  });
  filter.addEventListener("keydown", (event) => {
    const table = document.querySelector("[data-filtered]");
    if (event.key === "ArrowDown" && table) {
      event.preventDefault();
      focusRow(table, 0);
    }
  });
}

// Rows: the arrow keys move between them, and Enter or a click opens the link in one. One row of
// each table is reached by Tab.
function rowsOf(table) {
  return [...table.tBodies[0].rows].filter((row) => row.checkVisibility());
}

function focusRow(table, index) {
  const rows = rowsOf(table);
  const row = rows[Math.max(0, Math.min(index, rows.length - 1))];
  if (!row) return;
  table.querySelectorAll("tbody tr").forEach((one) => { one.tabIndex = one === row ? 0 : -1; });
  row.focus();
}

function openRow(row) {
  const link = row.querySelector("td a, summary");
  if (link) link.click();
}

function addRowKeys(table) {
  if (!table.tBodies[0] || !table.tBodies[0].rows[0]) return;
  table.tBodies[0].rows[0].tabIndex = 0;
  table.addEventListener("keydown", (event) => {
    const row = event.target.closest("tbody tr");
    if (!row || event.target.closest("input, select, textarea")) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const index = rowsOf(table).indexOf(row);
    const next = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: Infinity }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      focusRow(table, next);
    } else if (event.key === "Enter" && event.target === row) {
      openRow(row);
    }
  });
  table.addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr");
    const isOther = event.target.closest("a, button, input, select, summary, label, form");
    if (row && !isOther && row.querySelector("td:first-child a") && !String(getSelection())) {
      openRow(row);
    }
  });
}

// Adds what the markup of the server does not have.
function prepare(root) {
  root.querySelectorAll("time[datetime]").forEach(showLocalTime);
  root.querySelectorAll("table").forEach(addRowKeys);
}

prepare(document);

// A token that is pasted outside of a field opens the inspector. It is in no address.
document.addEventListener("paste", (event) => {
  const text = (event.clipboardData ? event.clipboardData.getData("text") : "").trim();
  const session = document.querySelector("input[name=form_token]");
  const isTyping = event.target.closest("input, select, textarea, [contenteditable]");
  if (isTyping || !session || !/^(bearer )?eyJ[\w-]+\.[\w-]+\.[\w-]*$/i.test(text)) return;
  const form = document.createElement("form");
  form.method = "post";
  form.action = "/console/inspect";
  for (const [name, value] of [["form_token", session.value], ["token", text]]) {
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = name;
    field.value = value;
    form.append(field);
  }
  document.body.append(form);
  form.submit();
});

// Keys: "g" and a letter for a page, "/" for the filter, "?" for the list of keys.
let isGoing = false;
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, select, textarea, [contenteditable]");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isGoing) {
    isGoing = false;
    const links = Array.from(document.querySelectorAll("nav a"));
    const link = links.find((one) => one.dataset.key === event.key);
    if (link) link.click();
    return;
  }
  if (event.key === "g") {
    isGoing = true;
  } else if (event.key === "/") {
    const field = document.querySelector("[data-filter], [data-filter-key]");
    if (!field) return;
    event.preventDefault();
    field.focus();
  } else if (event.key === "?") {
    const keys = document.getElementById("keys");
    if (keys) {
      keys.open = true;
      keys.scrollIntoView();
    }
  }
});
