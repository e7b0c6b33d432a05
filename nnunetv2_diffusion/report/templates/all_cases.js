// The table of all cases: filled for one training at a time, sorted by a heading, reached from the cells of Table 1.
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const trainings = data.trainings;
  const select = document.getElementById("cases-training");
  const table = document.getElementById("cases-table");
  const metrics = [["dice", "Dice", 3], ["hd95", "HD95 mm", 2], ["assd", "ASSD mm", 2]];
  const fixed = ["case", "fold", "oblique", "uncertainty"];
  const state = { training: 0, column: 4, descending: false };

  trainings.forEach(function (training, index) {
    select.add(new Option(training.model + ", " + training.modality, index));
  });

  function columns(training) {
    const list = [
      { title: "Case", value: (row) => row[0] },
      { title: "Fold", value: (row) => row[1], numeric: true, digits: 0 },
      { title: "Oblique", value: (row) => (row[2] ? "yes" : "") },
      { title: "Mean uncertainty", value: (row) => row[3], numeric: true, digits: 3 },
      { title: "Mean Dice", value: (row) => meanDice(training, row), numeric: true, digits: 3, key: "mean/dice" },
    ];
    training.structures.forEach(function (structure, position) {
      metrics.forEach(function (metric, offset) {
        list.push({
          title: structure[1] + " " + metric[1],
          value: (row) => row[fixed.length + 3 * position + offset],
          numeric: true,
          digits: metric[2],
          key: structure[0] + "/" + metric[0],
        });
      });
    });
    return list;
  }

  function meanDice(training, row) {
    const scores = training.structures.map((_, position) => row[fixed.length + 3 * position]).filter((v) => v !== null);
    return scores.length ? scores.reduce((a, b) => a + b, 0) / scores.length : null;
  }

  function sorted(rows, column) {
    const sign = state.descending ? -1 : 1;
    return rows.slice().sort(function (a, b) {
      const x = column.value(a), y = column.value(b);
      if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
      return sign * (column.numeric ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true }));
    });
  }

  function show() {
    const training = trainings[state.training];
    const list = columns(training);
    table.caption.textContent = training.model + ", " + training.modality + ": " + training.rows.length + " cases";
    const heading = document.createElement("tr");
    list.forEach(function (column, index) {
      const cell = document.createElement("th");
      cell.scope = "col";
      if (column.numeric) cell.className = "num";
      if (index === state.column) cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = column.title;
      button.addEventListener("click", function () {
        state.descending = state.column === index && !state.descending;
        state.column = index;
        show();
        table.tHead.rows[0].cells[index].firstChild.focus();
      });
      cell.append(button);
      heading.append(cell);
    });
    table.tHead.replaceChildren(heading);
    table.tBodies[0].replaceChildren(...sorted(training.rows, list[state.column]).map((row) => tableRow(list, row)));
  }

  function tableRow(list, row) {
    const line = document.createElement("tr");
    list.forEach(function (column, index) {
      const value = column.value(row);
      const cell = document.createElement(index === 0 ? "th" : "td");
      if (index === 0) cell.scope = "row";
      if (column.numeric) cell.className = "num";
      cell.textContent = value === null ? "–" : column.numeric ? value.toFixed(column.digits) : value;
      line.append(cell);
    });
    return line;
  }

  select.addEventListener("change", function () {
    state.training = Number(select.value);
    state.column = Math.min(state.column, columns(trainings[state.training]).length - 1);
    show();
  });

  document.querySelectorAll("a.cell").forEach(function (link) {
    link.addEventListener("click", function () {
      const wanted = link.dataset;
      state.training = trainings.findIndex((t) => t.dataset === wanted.dataset && t.model === wanted.model);
      select.value = state.training;
      const key = wanted.structure + "/" + wanted.metric;
      state.column = Math.max(0, columns(trainings[state.training]).findIndex((column) => column.key === key));
      state.descending = wanted.metric !== "dice";
      show();
      document.getElementById("cases").focus({ preventScroll: true });
    });
  });

  show();
})();
