"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const list = byId("scans");
  const rows = [...list.querySelectorAll(".scan")];
  const byNumber = rows.slice();
  const memory = `spinesegdiff:${location.pathname}`;
  let verdicts = {};
  let chosen = null;

  const remember = () => {
    try {
      localStorage.setItem(memory, JSON.stringify(verdicts));
    } catch {
      byId("state").textContent = "this browser keeps nothing: export before you close the page";
    }
  };
  try {
    verdicts = JSON.parse(localStorage.getItem(memory)) || {};
  } catch {
    verdicts = {};
  }

  // a verdict is of one result: a scan that was segmented again is looked at again
  const verdictOf = (row) => {
    const kept = Object.hasOwn(verdicts, row.dataset.name) ? verdicts[row.dataset.name] : null;
    return kept && kept.result === row.dataset.result ? kept : { result: row.dataset.result, verdict: "", comment: "" };
  };

  const showVerdict = (row) => {
    const { verdict, comment } = verdictOf(row);
    row.dataset.verdict = verdict;
    row.querySelector(".verdict").textContent = [verdict && `${verdict}ed`, comment].filter(Boolean).join(": ");
  };

  const count = () => {
    byId("state").textContent = `${rows.filter((row) => row.dataset.verdict).length} of ${rows.length} decided`;
  };

  const decide = (changes) => {
    if (!chosen) return;
    verdicts[chosen.dataset.name] = { ...verdictOf(chosen), ...changes };
    showVerdict(chosen);
    count();
    remember();
    byId("comment").value = verdictOf(chosen).comment;
  };

  const choose = (row, look = true) => {
    if (chosen) chosen.classList.remove("chosen");
    chosen = row;
    if (!row) return;
    row.classList.add("chosen");
    byId("title").textContent = row.dataset.name;
    byId("picture").src = row.dataset.picture;
    byId("comment").value = verdictOf(row).comment;
    const details = [row.querySelector(".reasons"), row.querySelector(".details")].map((one) => one.cloneNode(true));
    details[1].hidden = false;
    byId("details").replaceChildren(...details);
    if (look) row.scrollIntoView({ block: "nearest" });
    draw();
  };

  const step = (by) => {
    const shown = rows.filter((row) => !row.hidden);
    const next = shown[chosen && shown.includes(chosen) ? shown.indexOf(chosen) + by : 0];
    if (next) choose(next);
  };

  const sort = () => {
    const key = byId("sort").value;
    const number = (row) => Number(row.dataset[key]);
    rows.sort((a, b) => {
      if (key === "name") return a.dataset.name < b.dataset.name ? -1 : 1;
      return number(b) - number(a) || a.dataset.number - b.dataset.number;
    });
    list.append(...rows);
  };

  const filter = () => {
    const wanted = byId("filter").value;
    const tests = {
      "": () => true,
      any: (row) => Number(row.dataset.doubt) > 0,
      undecided: (row) => !row.dataset.verdict,
      accept: (row) => row.dataset.verdict === "accept",
      reject: (row) => row.dataset.verdict === "reject",
    };
    const test = tests[wanted] || ((row) => JSON.parse(row.dataset.kinds).includes(wanted.slice("is:".length)));
    for (const row of rows) row.hidden = !test(row);
    if (!chosen || chosen.hidden) choose(rows.find((row) => !row.hidden) || null);
  };

  const csv = () => {
    const cell = (value) => `"${String(value).replaceAll('"', '""')}"`;
    const lines = byNumber
      .map((row) => [row.dataset.name, verdictOf(row)])
      .filter(([, kept]) => kept.verdict || kept.comment)
      .map(([name, kept]) => [name, kept.result, kept.verdict, kept.comment].map(cell).join(","));
    return [data.columns.join(","), ...lines, ""].join("\r\n");
  };

  byId("export").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "verdicts.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });

  const canvas = byId("distribution");
  const chooser = byId("measurement");
  const MARGIN = { left: 70, right: 15, top: 15, bottom: 40 };
  const INK = "#1b2733", DOT = "rgba(47, 127, 193, 0.55)", CHOSEN = "#d9822b";

  // the same sideways shift for a scan at every level, so that a drawing is the same every time
  const shift = (number) => ((number * 0.6180339887) % 1) - 0.5;

  const draw = () => {
    if (!canvas) return;
    const { levels, values, unit } = data.measurements[chooser.value];
    const pen = canvas.getContext("2d");
    const height = canvas.height - MARGIN.top - MARGIN.bottom;
    const column = (canvas.width - MARGIN.left - MARGIN.right) / levels.length;
    const numbers = values.map(([, , value]) => value);
    let low = numbers.reduce((a, b) => Math.min(a, b)), high = numbers.reduce((a, b) => Math.max(a, b));
    if (low === high) [low, high] = [low - 1, high + 1];
    const across = (level, scan) => MARGIN.left + column * (level + 0.5 + 0.7 * shift(scan));
    const down = (value) => MARGIN.top + (height * (high - value)) / (high - low);
    canvas.points = values.map(([level, scan, value]) => ({ x: across(level, scan), y: down(value), scan }));
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = INK;
    pen.font = "12px sans-serif";
    pen.textAlign = "center";
    levels.forEach((level, n) => pen.fillText(level, MARGIN.left + column * (n + 0.5), canvas.height - 15));
    pen.textAlign = "right";
    for (const value of [low, (low + high) / 2, high]) {
      pen.fillText(`${Number(value.toPrecision(3))} ${unit}`, MARGIN.left - 8, down(value) + 4);
    }
    const current = chosen ? Number(chosen.dataset.number) : -1;
    for (const later of [false, true]) {
      pen.fillStyle = later ? CHOSEN : DOT;
      for (const { x, y, scan } of canvas.points) {
        if ((scan === current) === later) pen.fillRect(x - (later ? 4 : 2), y - (later ? 4 : 2), later ? 8 : 4, later ? 8 : 4);
      }
    }
  };

  if (canvas) {
    data.measurements.forEach((one, n) => chooser.append(new Option(one.title, n)));
    chooser.addEventListener("change", draw);
    canvas.addEventListener("click", (event) => {
      const scale = canvas.width / canvas.getBoundingClientRect().width;
      const distance = (point) => Math.hypot(point.x - event.offsetX * scale, point.y - event.offsetY * scale);
      const nearest = canvas.points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
      const row = byNumber[nearest.scan];
      if (row.hidden) {
        byId("filter").value = "";
        filter();
      }
      choose(row);
    });
  }

  list.addEventListener("click", (event) => {
    const row = event.target.closest(".scan");
    if (row) choose(row, false);
  });
  for (const button of document.querySelectorAll("button[data-verdict]")) {
    button.addEventListener("click", () => decide({ verdict: button.dataset.verdict }));
  }
  byId("comment").addEventListener("input", (event) => decide({ comment: event.target.value }));
  byId("sort").addEventListener("change", sort);
  byId("filter").addEventListener("change", filter);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape" || (event.key === "Enter" && event.target.id === "comment")) event.target.blur();
      return;
    }
    const actions = {
      ArrowDown: () => step(1),
      j: () => step(1),
      ArrowUp: () => step(-1),
      k: () => step(-1),
      a: () => decide({ verdict: "accept" }),
      r: () => decide({ verdict: "reject" }),
      u: () => decide({ verdict: "" }),
      c: () => byId("comment").focus(),
    };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
  });

  rows.forEach(showVerdict);
  count();
  choose(rows[0] || null, false);
})();
