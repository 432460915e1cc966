/* Copyright: contributors to lowlatency.fleet
   GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
   SPDX-License-Identifier: GPL-3.0-or-later */
// Draws the report. Everything a host said gets into the page as text (textContent), never as markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [CONTROL, NAME, CURRENT, DESIRED, PERSISTED, REASON, FIX, WAIVER, VERDICT] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const SIGNS = {ok: "\u00b7", changed: "+", drifted: "!", waived: "w", unsupported: "\u2013", error: "?"};
  const WORST = ["error", "drifted", "waived", "changed", "ok", "unsupported"];
  const CHOICES = [...data.verdicts, "unreachable", "failed", "unjudged"];
  const ROW = 22, CELL = 16, SHOWN_AT_ONCE = 500;
  const USES = [["housekeeping", "housekeeping"], ["irq", "interrupts of NICs"], ["isolated", "applications"],
    ["idle", "idle thread of an application core"], ["cpu", "not planned"]];
  const text = (number) => number < 0 ? null : data.texts[number];
  const verdictOf = (row) => data.verdicts[row[VERDICT]];

  function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "class") made.className = value; else made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }
  function drawn(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // --- What is asked for: kept in the address, so that a view can be sent to somebody.
  const state = {q: "", verdicts: new Set(CHOICES), family: "", sort: "worst", host: ""};
  function readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    state.q = asked.get("q") || "";
    state.verdicts = new Set(asked.has("v") ? asked.get("v").split(",").filter((one) => CHOICES.includes(one)) : CHOICES);
    state.family = asked.get("f") || "";
    state.sort = asked.get("s") === "name" ? "name" : "worst";
    state.host = asked.get("host") || "";
  }
  function writeAddress() {
    const asked = new URLSearchParams();
    if (state.q) asked.set("q", state.q);
    if (state.verdicts.size < CHOICES.length) asked.set("v", [...state.verdicts].join(","));
    if (state.family) asked.set("f", state.family);
    if (state.sort !== "worst") asked.set("s", state.sort);
    if (state.host) asked.set("host", state.host);
    history.replaceState(null, "", "#" + asked.toString());
  }

  // --- What matches. Rows are there once for all hosts that have them, so a search looks at few.
  const low = data.rows.map((row) => row.slice(0, VERDICT).map((number) => text(number) || "").join("\n").toLowerCase());
  const family = (row) => text(row[CONTROL]).split(".")[0];
  function selection() {
    const q = state.q.toLowerCase();
    const allowed = data.rows.map((row) => state.verdicts.has(verdictOf(row)) && (!state.family || family(row) === state.family));
    const found = allowed.map((yes, number) => yes && low[number].includes(q));
    const hosts = [], controls = new Set();
    for (const host of data.hosts) {
      const named = host[0].toLowerCase().includes(q), ok = named ? allowed : found;
      const rows = host[3].filter((number) => ok[number]);
      const verdict = data.host_verdicts[host[1]];
      const problem = ["unreachable", "failed", "unjudged"].includes(verdict) && state.verdicts.has(verdict) && !state.family &&
        (named || host[2].toLowerCase().includes(q));
      if (!rows.length && !problem) continue;
      hosts.push({host, rows});
      for (const number of rows) controls.add(data.rows[number][CONTROL]);
    }
    hosts.sort((a, b) => (state.sort === "worst" ? a.host[1] - b.host[1] : 0) || (a.host[0] < b.host[0] ? -1 : 1));
    return {hosts, controls: [...controls].sort((a, b) => text(a) < text(b) ? -1 : 1)};
  }

  // --- The heat map: of all rows only those in sight are in the page.
  const heat = element("div", {class: "heat", tabindex: "0", role: "region", "aria-label": "hosts and controls"});
  const names = element("div", {class: "names"}), rows = element("div", {class: "rows"});
  const status = element("p", {class: "quiet", id: "status", "aria-live": "polite"});
  heat.append(names, rows);
  let view = {hosts: [], controls: []}, place = new Map(), first = -1, last = -1, width = 0;

  function heading() {
    const phone = matchMedia("(max-width: 46rem)").matches, em = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const left = phone ? 8 * em : (13 + 6.2) * em;
    place = new Map(view.controls.map((control, number) => [control, number]));
    width = left + view.controls.length * CELL;
    names.replaceChildren(element("div", {class: "corner"}), ...view.controls.map((control, number) => {
      const span = element("span", {title: text(control)}, text(control));
      span.style.left = `${left + number * CELL}px`;
      return span;
    }));
    names.style.width = rows.style.width = `${width}px`;
    rows.style.height = `${view.hosts.length * ROW}px`;
  }
  function heatRow(number) {
    const {host, rows: shown} = view.hosts[number], worst = new Array(view.controls.length).fill(-1);
    for (const row of shown) {
      const at = place.get(data.rows[row][CONTROL]), rank = WORST.indexOf(verdictOf(data.rows[row]));
      if (worst[at] < 0 || rank < worst[at]) worst[at] = rank;
    }
    const verdict = data.host_verdicts[host[1]];
    const button = element("button", {type: "button", title: host[0]}, host[0]);
    if (host[0] === state.host) button.className = "chosen";
    button.addEventListener("click", () => choose(host[0]));
    const line = element("div", {class: "row"}, button, element("b", {class: verdict}, verdict));
    worst.forEach((rank, at) => {
      const word = rank < 0 ? "" : WORST[rank];
      line.append(element("i", word ? {class: word, title: `${text(view.controls[at])}: ${word}`} : {}, word ? SIGNS[word] : ""));
    });
    line.style.top = `${number * ROW}px`;
    return line;
  }
  function drawHeat(again) {
    const from = Math.max(0, Math.floor(heat.scrollTop / ROW) - 5), to = Math.min(view.hosts.length, from + Math.ceil(heat.clientHeight / ROW) + 10);
    if (!again && from === first && to === last) return;
    [first, last] = [from, to];
    const lines = [];
    for (let number = from; number < to; number++) lines.push(heatRow(number));
    rows.replaceChildren(...lines);
  }

  // --- The filters.
  const search = element("input", {type: "search", id: "q", placeholder: "host, control, value, reason", "aria-label": "search"});
  const families = element("select", {id: "family", "aria-label": "kind of control"}, element("option", {value: ""}, "all controls"),
    ...[...new Set(data.rows.map(family))].sort().map((name) => element("option", {value: name}, name)));
  const sorting = element("select", {id: "sort", "aria-label": "order"},
    element("option", {value: "worst"}, "worst first"), element("option", {value: "name"}, "by name"));
  const boxes = CHOICES.map((verdict) => element("input", {type: "checkbox", value: verdict, id: `v-${verdict}`}));
  function showFilters() {
    search.value = state.q;
    families.value = state.family;
    sorting.value = state.sort;
    for (const box of boxes) box.checked = state.verdicts.has(box.value);
  }
  function changed() {
    state.q = search.value;
    state.family = families.value;
    state.sort = sorting.value;
    state.verdicts = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    draw();
  }
  const all = element("button", {type: "button"}, "all"), wrong = element("button", {type: "button", id: "wrong"}, "only what is not right");
  function check(verdicts) {
    for (const box of boxes) box.checked = verdicts.includes(box.value);
    changed();
  }
  all.addEventListener("click", () => check(CHOICES));
  wrong.addEventListener("click", () => check(["drifted", "error", "unreachable", "failed", "unjudged"]));
  let waiting = 0;
  search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(changed, 120); });
  for (const one of [families, sorting, ...boxes]) one.addEventListener("change", changed);

  // --- One host.
  const chosen = element("section", {id: "host"});
  function choose(name) {
    state.host = name;
    writeAddress();
    drawHeat(true);
    drawHost();
    chosen.scrollIntoView({block: "start"});
  }
  function drawHost() {
    const host = data.hosts.find((one) => one[0] === state.host);
    if (!host) { chosen.replaceChildren(); return; }
    const verdict = data.host_verdicts[host[1]], found = view.hosts.find((one) => one.host === host);
    const shown = found ? found.rows : [];
    const order = [...shown].sort((a, b) => WORST.indexOf(verdictOf(data.rows[a])) - WORST.indexOf(verdictOf(data.rows[b])));
    chosen.replaceChildren(
      element("h2", {}, host[0], " ", element("span", {class: `tag ${verdict}`}, verdict)),
      host[2] ? element("p", {}, host[2]) : "",
      verdict === "unjudged" ? element("p", {}, "Nothing was judged on this host: the run did not get to it, or asked it for no settings.") : "",
      host[4] < 0 ? "" : coreMap(data.machines[host[4]]),
      element("h3", {}, `Settings (${shown.length} of ${host[3].length})`), settings(order), diffs(host[5]));
  }
  function settings(order) {
    const body = element("tbody", {});
    const add = (from) => {
      for (const number of order.slice(from, from + SHOWN_AT_ONCE)) body.append(settingLine(data.rows[number]));
      if (order.length > from + SHOWN_AT_ONCE) {
        const more = element("button", {type: "button"}, `${order.length - from - SHOWN_AT_ONCE} more`);
        const line = element("tr", {}, element("td", {colspan: "6"}, more));
        more.addEventListener("click", () => { line.remove(); add(from + SHOWN_AT_ONCE); });
        body.append(line);
      }
    };
    add(0);
    return element("table", {class: "settings"}, element("thead", {}, element("tr", {},
      ...["verdict", "setting", "now", "wanted", "after a boot", "why it matters, and what to do"].map((head) => element("th", {}, head)))), body);
  }
  function settingLine(row) {
    const verdict = verdictOf(row), control = text(row[CONTROL]), name = text(row[NAME]);
    const value = (label, number) => element("td", {class: "value", "data-label": label}, text(number) === null ? "not set" : text(number));
    const advice = element("td", {});
    for (const [label, words] of [["", text(row[REASON])], ["Why: ", data.controls[control]], ["Waived: ", text(row[WAIVER])], ["Fix: ", text(row[FIX])]]) {
      if (words) advice.append(element("div", {class: label === "Why: " ? "quiet" : ""}, label + words));
    }
    return element("tr", {}, element("td", {}, element("span", {class: `tag ${verdict}`}, verdict)),
      element("td", {"data-label": "setting"}, name, name === control ? "" : element("div", {class: "quiet"}, control)),
      value("now", row[CURRENT]), value("wanted", row[DESIRED]), value("after a boot", row[PERSISTED]), advice);
  }
  function diffs(numbers) {
    const part = element("div", {});
    for (let at = 0; at < numbers.length; at += 3) {
      const [header, before, after] = numbers.slice(at, at + 3).map(text);
      const block = element("pre", {}), old = before.split("\n"), fresh = after.split("\n"), kept = new Set(fresh), had = new Set(old);
      for (const line of old) if (!kept.has(line)) block.append(element("span", {class: "minus"}, `- ${line}\n`));
      for (const line of fresh) if (!had.has(line)) block.append(element("span", {class: "plus"}, `+ ${line}\n`));
      part.append(element("details", {open: ""}, element("summary", {}, header || "difference"), block));
    }
    return numbers.length ? element("div", {id: "diffs"}, element("h3", {}, "Difference"), part) : "";
  }

  // --- The core map: sockets beside each other, their nodes below each other, a core is a column of its threads.
  function coreMap(machine) {
    const THREAD = 22, PER_LINE = 16;
    const picture = drawn("svg", {role: "img", "aria-label": "core map"});
    let x = 0, tallest = 0;
    for (const socket of machine.sockets) {
      let y = 18, wide = 120;
      const group = drawn("g", {class: "socket"}, label(x + 6, 12, `socket ${socket.name}`));
      for (const node of socket.nodes) {
        const top = y, lines = [...socketNics(node, x + 12, y + 26)];
        y += 20 + node.nics.length * 13;
        group.append(label(x + 12, top + 13, `node ${node.name}`), ...lines);
        const threads = Math.max(1, ...node.cores.map((core) => core.length));
        node.cores.forEach((core, number) => {
          core.forEach((thread, at) => group.append(...cpu(thread, x + 12 + (number % PER_LINE) * (THREAD + 3),
            y + Math.floor(number / PER_LINE) * (threads * THREAD + 5) + at * THREAD, THREAD)));
        });
        y += Math.ceil(node.cores.length / PER_LINE) * (threads * THREAD + 5) + 4;
        wide = Math.max(wide, Math.min(node.cores.length, PER_LINE) * (THREAD + 3) + 24, ...node.nics.map((nic) => nic.length * 6 + 40));
        group.append(drawn("rect", {class: "box node", x: x + 7, y: top, width: wide - 14, height: y - top, rx: 4}));
        y += 6;
      }
      group.append(drawn("rect", {class: "box", x: x + 1, y: 1, width: wide - 2, height: y, rx: 5}));
      picture.append(group);
      x += wide + 8;
      tallest = Math.max(tallest, y + 4);
    }
    picture.setAttribute("width", x);
    picture.setAttribute("height", tallest);
    const others = [...machine.services.map((service) => `service ${service}`), ...machine.elsewhere.map((nic) => `NIC on no node: ${nic}`),
      ...(machine.offline ? [`offline: CPUs ${machine.offline}`] : [])];
    return element("div", {id: "cores"}, element("h3", {}, "Core map"), legend(), element("div", {class: "map"}, picture),
      others.length ? list(others) : "");
  }
  function label(x, y, words) { return drawn("text", {x, y}, words); }
  function socketNics(node, x, y) { return node.nics.map((nic, number) => label(x, y + number * 13, `NIC ${nic}`)); }
  function cpu(thread, x, y, size) {
    const words = [`CPU ${thread.cpu}: ${USES.find(([use]) => use === thread.use)[1]}`, ...thread.of].join("; ");
    const served = thread.of.some((name) => !/^(interrupts|cores) of /.test(name));
    const kind = `thread ${thread.use}${served ? " service" : ""}`;
    return [drawn("rect", {class: kind, x, y, width: size - 1, height: size - 1, rx: 2}, drawn("title", {}, words)),
      drawn("text", {x: x + (size - 1) / 2, y: y + 14, "text-anchor": "middle", "pointer-events": "none"}, String(thread.cpu))];
  }
  function legend() {
    const entries = [...USES.map(([use, words]) => [`thread ${use}`, words]), ["thread cpu service", "has a service"]];
    return element("div", {class: "legend"}, ...entries.map(([kind, words]) => element("span", {},
      drawn("svg", {viewBox: "0 0 14 14"}, drawn("rect", {class: kind, x: 1, y: 1, width: 12, height: 12})), ` ${words}`)));
  }

  // --- What is beside the hosts: changes, waivers, problems.
  function list(lines) {
    const more = lines.length - SHOWN_AT_ONCE;
    return element("ul", {}, ...lines.slice(0, SHOWN_AT_ONCE).map((line) => element("li", {}, line)),
      more > 0 ? element("li", {}, `and ${more} more: scripts/report compare tells them all`) : "");
  }
  function beside() {
    const parts = [];
    if (data.problems.length) parts.push(element("h2", {}, "Not usable"), list(data.problems));
    if (data.changes) {
      const lines = Object.entries(data.parts).filter(([part]) => data.changes[part].length).map(([part, title]) =>
        element("details", part === "new_drift" ? {open: ""} : {},
          element("summary", {}, `${title} (${data.changes[part].length})`), list(data.changes[part])));
      parts.push(element("h2", {}, `Since ${data.changes.since}`), ...(lines.length ? lines : [element("p", {}, "Nothing changed.")]));
    }
    if (data.waivers.length) {
      const heads = ["control", "name", "hosts", "reason", "owner", "until", "waives"];
      parts.push(element("h2", {}, "Waivers"), element("div", {class: "wide"}, element("table", {id: "waivers"},
        element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", {}, head)))),
        element("tbody", {}, ...data.waivers.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell))))))));
    }
    return parts;
  }

  function draw() {
    view = selection();
    writeAddress();
    heading();
    drawHeat(true);
    drawHost();
    status.textContent = `${view.hosts.length} of ${data.hosts.length} hosts, ${view.controls.length} controls`;
  }
  document.getElementById("page").append(
    element("div", {class: "filters"}, search, families, sorting),
    element("div", {class: "filters"}, ...boxes.map((box) => element("label", {class: box.value}, box, box.value)), wrong, all),
    status, heat, chosen, ...beside());
  heat.addEventListener("scroll", () => requestAnimationFrame(() => drawHeat(false)));
  addEventListener("resize", () => { heading(); drawHeat(true); });
  addEventListener("hashchange", () => { readAddress(); showFilters(); draw(); });
  readAddress();
  showFilters();
  draw();
})();
