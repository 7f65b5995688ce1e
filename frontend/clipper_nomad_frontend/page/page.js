"use strict";
// Everything that is shown comes from openapi.json, V2's health calls and the answers themselves, and is set as text.
const at = (id) => document.getElementById(id);
const made = (tag, text = "", kind = "") => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
// Long texts without blanks break behind their marks, not within words.
const breakable = (element, text) => {
  const pieces = text.length > 5000 ? [text] : text.split(/(?<=[,:/[{])/);
  element.replaceChildren(...pieces.flatMap((piece) => [piece, made("wbr")]));
  return element;
};
const chosen = document.documentElement.dataset.app;
const base = location.pathname.replace(/\/docs\/?$/, "").slice(0, chosen ? -chosen.length - 1 : undefined);
const MOST_BARS = 40;
const HINTS = {
  doubles: "An input is a list of numbers.",
  floats: "An input is a list of numbers, kept in 32 bits.",
  integers: "An input is a list of integers of 32 bits.",
  strings: "An input is a text.",
  bytes: "An input is a text in base64.",
};
const DATATYPES = { doubles: "FP64", floats: "FP32", integers: "INT32", strings: "BYTES", bytes: "BYTES" };
const POLICIES = {
  late: "a late answer is marked",
  default: "its default output after that",
  error: "an error after that",
};

let apps = [];
let app = null;
const drafts = {}; // what was typed, by app and protocol
const past = {}; // [milliseconds, kind] by app

const form = () => document.querySelector("input[name=form]:checked").value;
const length = (micros) => {
  const ms = micros / 1000;
  if (ms >= 10000) return `${+(ms / 1000).toFixed(1)} s`;
  return ms >= 1000 ? `${+(ms / 1000).toFixed(2)} s` : `${+ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
};

async function load() {
  try {
    const answer = await fetch(`${base}/openapi.json`);
    if (!answer.ok) throw new Error(`openapi.json: ${answer.status}`);
    const described = await answer.json();
    at("release").textContent = described.info.version;
    at("document").href = `${base}/openapi.json`;
    apps = described["x-applications"];
    listCalls(described.paths);
  } catch (problem) {
    notice(`The server does not answer (${problem.message}). Reload the page to try again.`);
    return;
  }
  at("apps").replaceChildren(...apps.map(entry));
  const first = apps.find((each) => each.name === chosen) || apps[0];
  if (first) select(first);
  else notice("No application is registered yet. Deploy a model, and it is here:", "clipper-nomad deploy model.py:predict --name digits");
}

function notice(text, command = "") {
  at("notice").replaceChildren(text, ...(command ? [made("pre", command, "card")] : []));
}

function entry(each) {
  const link = made("a", each.name);
  link.href = `${base}/${each.name}/docs`;
  link.append(made("small", each.model ? `${each.model}${each.version ? `:${each.version}` : ""}` : "not linked"));
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    select(each);
  });
  link.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const all = [...at("apps").querySelectorAll("a")];
    if (step) all[(all.indexOf(link) + step + all.length) % all.length].focus();
    if (step) event.preventDefault();
  });
  const item = made("li");
  item.append(link);
  return item;
}

function select(each) {
  app = each;
  at("notice").hidden = true;
  at("app").hidden = false;
  at("apps").querySelectorAll("a").forEach((link, index) => link.toggleAttribute("aria-current", apps[index] === app));
  at("name").textContent = document.title = app.name;
  document.title += " · clipper-nomad";
  at("model").textContent = app.model ? `model ${app.model}${app.version ? `:${app.version}` : ""}` : "linked to no model";
  at("kind").textContent = `takes ${app.input_type}`;
  at("promise").textContent = `answers within ${length(app.slo_micros)}; ${POLICIES[app.slo_policy]}`;
  at("hint").textContent = HINTS[app.input_type];
  const versions = ["", ...app.versions].map((version) => {
    const option = made("option", version || "current");
    option.value = version;
    return option;
  });
  at("version").replaceChildren(...versions);
  history.replaceState(null, "", `${base}/${app.name}/docs`);
  at("answer").replaceChildren(made("p", "Send the query as it is, or change it first.", "empty"));
  write();
  draw();
  askReady();
}

function example() {
  const version = at("version").value;
  if (form() === "clipper") return pretty({ input: app.example, ...(version ? { version } : {}) });
  const isText = !Array.isArray(app.example);
  const shape = isText ? [1] : [1, app.example.length];
  const parameters = app.input_type === "bytes" ? { parameters: { content_type: "base64" } } : {};
  const data = isText ? [app.example] : app.example;
  return pretty({ inputs: [{ name: "input", datatype: DATATYPES[app.input_type], shape, ...parameters, data }] });
}

// Objects over several lines, lists on one.
function pretty(value, indent = "") {
  if (Array.isArray(value) && value.some((each) => each instanceof Object)) return `[${value.map((each) => pretty(each, indent)).join(", ")}]`;
  if (Array.isArray(value)) return `[${value.map((each) => JSON.stringify(each)).join(", ")}]`;
  if (!(value instanceof Object)) return JSON.stringify(value);
  const inner = `${indent}  `;
  const lines = Object.entries(value).map(([key, each]) => `${inner}${JSON.stringify(key)}: ${pretty(each, inner)}`);
  return `{\n${lines.join(",\n")}\n${indent}}`;
}

const path = () => {
  const version = at("version").value;
  if (form() === "clipper") return `${base}/${app.name}/predict`;
  return `${base}/v2/models/${app.name}${version ? `/versions/${encodeURIComponent(version)}` : ""}/infer`;
};

function write() {
  at("query").value = drafts[`${app.name} ${form()}`] ?? example();
  at("query").rows = Math.min(16, Math.max(7, at("query").value.split("\n").length));
  show();
}

function show() {
  breakable(at("path"), path());
  const quoted = at("query").value.replace(/\s*\n\s*/g, " ").replaceAll("'", "'\\''");
  breakable(at("curl"), `curl ${location.origin}${path()} \\\n  -d '${quoted}'`);
}

async function askReady() {
  const asked = app;
  const answer = await fetch(`${base}/v2/models/${asked.name}/ready`).catch(() => null);
  if (asked !== app) return;
  at("ready").className = `ready ${answer?.ok ? "yes" : "no"}`;
  at("ready").textContent = answer?.ok ? "ready" : answer ? "not ready" : "server does not answer";
}

async function send(event) {
  event.preventDefault();
  const asked = app;
  at("send").disabled = true;
  const began = performance.now();
  try {
    const answer = await fetch(path(), { method: "POST", headers: { "Content-Type": "application/json" }, body: at("query").value });
    const text = await answer.text();
    if (asked === app) report(answer, text, performance.now() - began);
  } catch (problem) {
    at("answer").replaceChildren(made("p", "no answer", "pill bad"), made("p", `The connection failed: ${problem.message}`, "why"));
  }
  at("send").disabled = false;
}

function report(answer, text, ms) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { error: "The answer is no JSON." };
  }
  const flags = { ...body, ...body.parameters };
  const kind = !answer.ok ? "bad" : flags.default || flags.late ? "warn" : "good";
  const verdict = made("p", "", "verdict");
  verdict.append(made("span", `${answer.status} ${answer.statusText}`, `pill ${answer.ok ? "good" : "bad"}`));
  if (flags.default) verdict.append(made("span", "default output", "pill warn"));
  if (flags.late) verdict.append(made("span", "late", "pill warn"));
  const took = made("span", `${length(ms * 1000)} `, "took");
  took.append(made("small", "round trip"));
  verdict.append(took);
  const parts = [verdict];
  const output = answer.ok ? outputIn(text, body) : body.error || "error";
  parts.push(made("p", output, output.length > 60 ? "output long" : "output"));
  const why = body.cause || flags.default_explanation;
  if (why) parts.push(made("p", why, "why"));
  parts.push(details(answer, body), breakable(made("pre", "", "body"), text));
  parts.at(-1).tabIndex = 0;
  at("answer").replaceChildren(...parts);
  (past[app.name] ??= []).push([ms, kind]);
  draw();
  if (kind !== "good") askReady();
}

// As it was sent: JSON.parse would round large integers.
function outputIn(text, body) {
  if (body.batch_predictions) return `${body.batch_predictions.length} answers`;
  const start = text.indexOf(body.outputs ? '"data":' : '"output":');
  const end = body.outputs ? Math.max(text.lastIndexOf("]}]}") + 1, text.lastIndexOf('],"parameters"') + 1) : text.lastIndexOf(',"default":');
  return text.slice(start + (body.outputs ? 7 : 9), end);
}

function details(answer, body) {
  const tensor = body.outputs?.[0];
  const rows = {
    model: answer.headers.get("X-Clipper-Model"),
    replica: answer.headers.get("X-Clipper-Replica"),
    tensor: tensor && `${tensor.datatype} [${tensor.shape.join(", ")}]`,
    request: answer.headers.get("X-Request-Id"),
    "ask again in": answer.headers.get("Retry-After") && `${answer.headers.get("Retry-After")} s`,
  };
  const list = made("dl");
  for (const [name, value] of Object.entries(rows)) if (value) list.append(made("dt", name), made("dd", value));
  return list;
}

function draw() {
  const shown = (past[app.name] || []).slice(-MOST_BARS);
  at("past").hidden = shown.length < 2;
  if (shown.length < 2) return;
  const times = shown.map(([ms]) => ms).sort((a, b) => a - b);
  const median = times[Math.floor(times.length / 2)];
  const highest = times.at(-1);
  const full = Math.min(highest, 4 * median); // one slow start is not to flatten all others
  const bars = shown.map(([ms, kind]) => {
    const bar = made("i", "", kind === "good" ? "" : kind);
    bar.style.height = `${Math.min(100, Math.max(4, (100 * ms) / full))}%`;
    return bar;
  });
  at("bars").replaceChildren(...bars);
  at("summary").textContent = `last ${shown.length}: median ${length(median * 1000)}, longest ${length(highest * 1000)}`;
}

function listCalls(paths) {
  const rows = [];
  for (const [name, operations] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      if (operation.tags) continue; // an application's own
      const row = made("tr");
      row.append(made("td", method.toUpperCase()), breakable(made("td"), base + name), made("td", operation.summary));
      rows.push(row);
    }
  }
  at("rows").replaceChildren(...rows);
}

at("query-form").addEventListener("submit", send);
at("query").addEventListener("input", () => {
  drafts[`${app.name} ${form()}`] = at("query").value;
  show();
});
at("query").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("query-form").requestSubmit();
});
at("version").addEventListener("change", () => {
  if (form() === "clipper") delete drafts[`${app.name} clipper`];
  write();
});
document.querySelectorAll("input[name=form]").forEach((each) => each.addEventListener("change", write));
at("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(at("curl").textContent);
    at("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(at("curl")); // without https a browser may refuse: then it is one key away
    at("copy").textContent = "Selected";
  }
  setTimeout(() => (at("copy").textContent = "Copy"), 1500);
});
setInterval(() => app && !document.hidden && askReady(), 5000);
load();
