// The gallery: each case as image, reference, mask and uncertainty, drawn when it comes into view.
(function () {
  "use strict";
  const gallery = JSON.parse(document.getElementById("report-data").textContent).gallery;
  if (!gallery) return;
  const byId = (id) => document.getElementById(id);
  const model = byId("gallery-model"), modality = byId("gallery-modality"), sort = byId("gallery-sort");
  const opacity = byId("gallery-opacity"), outline = byId("gallery-outline"), holder = byId("gallery-cards");
  const toggles = Array.from(document.querySelectorAll('input[name="structure"]'));
  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const colours = Object.fromEntries(gallery.structures.map((s) => [s.name, rgb(s.colour)]));
  const kinds = ["Image", "Reference", "Prediction", "Uncertainty"];

  // (value, length) pairs, lengths seven bits at a time with the lowest first
  function decode(text, size) {
    const bytes = atob(text), out = new Uint8Array(size);
    let at = 0, filled = 0;
    while (at < bytes.length) {
      const value = bytes.charCodeAt(at++);
      let length = 0, shift = 0, byte;
      do {
        byte = bytes.charCodeAt(at++);
        length |= (byte & 127) << shift;
        shift += 7;
      } while (byte & 128);
      out.fill(value, filled, filled + length);
      filled += length;
    }
    return out;
  }

  function layer(width, height, paint) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
    for (let at = 0; at < width * height; at++) {
      const colour = paint(at);
      if (colour) pixels.data.set([colour[0], colour[1], colour[2], 255], 4 * at);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  // The colour of each label code: that of the last structure switched on that holds it.
  function palette(entry) {
    const of = {};
    toggles.filter((toggle) => toggle.checked && entry.codes[toggle.value]).forEach(function (toggle) {
      entry.codes[toggle.value].forEach((code) => { of[code] = colours[toggle.value]; });
    });
    return of;
  }

  const maskLayer = (entry, mask) => {
    const of = palette(entry);
    return layer(entry.width, entry.height, (at) => of[mask[at]]);
  };

  const mapLayer = (entry, map) => layer(entry.width, entry.height, (at) => gallery.colours[map[at]]);

  function outlineLayer(entry, mask) {
    const of = palette(entry), shown = (at) => (of[mask[at]] ? mask[at] : 0), width = entry.width;
    return layer(width, entry.height, function (at) {
      const here = shown(at), column = at % width;
      const edge = (column > 0 && shown(at - 1) !== here) || (at >= width && shown(at - width) !== here);
      return edge ? [255, 255, 255] : null;
    });
  }

  const prediction = (entry) => entry.predictions.find((one) => one.model === model.value);

  function loadImage(card) {
    if (card.loading) return card.loading;
    const entry = card.entry;
    card.reference = decode(entry.reference, entry.width * entry.height);
    card.image = new Image();
    card.loading = entry.image ? ((card.image.src = entry.image), card.image.decode()) : Promise.resolve();
    return card.loading;
  }

  function draw(card) {
    const entry = card.entry, size = entry.width * entry.height, found = prediction(entry);
    const overlays = [null, maskLayer(entry, card.reference), null, null];
    if (found) {
      overlays[2] = maskLayer(entry, decode(found.mask, size));
      if (found.uncertainty) overlays[3] = mapLayer(entry, decode(found.uncertainty, size));
    }
    const edges = outline.checked ? outlineLayer(entry, card.reference) : null;
    card.canvases.forEach(function (canvas, kind) {
      const context = canvas.getContext("2d");
      context.globalAlpha = 1;
      context.fillStyle = "#000";
      context.fillRect(0, 0, canvas.width, canvas.height);
      if (entry.image) context.drawImage(card.image, 0, 0, canvas.width, canvas.height);
      if (overlays[kind]) {
        context.globalAlpha = Number(opacity.value) / 100;
        context.drawImage(overlays[kind], 0, 0, canvas.width, canvas.height);
      }
      if (edges && kind > 1 && overlays[kind]) {
        context.globalAlpha = kind === 2 ? 0.85 : 0.5;
        context.drawImage(edges, 0, 0, canvas.width, canvas.height);
      }
    });
    card.element.dataset.drawn = String(Number(card.element.dataset.drawn || 0) + 1);
  }

  function describe(card) {
    const entry = card.entry, found = prediction(entry);
    const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
    card.panes[2].textContent = found ? "Prediction" : "not predicted by this model";
    card.panes[3].textContent = found && found.uncertainty ? "Uncertainty" : "no uncertainty map";
    card.numbers.textContent = !found ? "" : "Dice " + number(found.mean_dice) + " (" +
      gallery.structures.filter((s) => s.name in found.dice).map((s) => s.label + " " + number(found.dice[s.name])).join(", ") +
      ")" + (found.mean_uncertainty === null ? "" : ", uncertainty " + number(found.mean_uncertainty)) + ", fold " + found.fold;
    card.canvases.forEach(function (canvas, kind) {
      canvas.setAttribute("aria-label", card.panes[kind].textContent + " of " + entry.case +
        (kind === 2 && found ? ", mean Dice " + number(found.mean_dice) : "") +
        (kind === 3 && found && found.mean_uncertainty !== null ? ", mean " + number(found.mean_uncertainty) : ""));
    });
  }

  function make(entry) {
    const element = document.createElement("article"), header = document.createElement("header");
    element.className = "card";
    element.dataset.case = entry.case;
    const title = document.createElement("h3"), numbers = document.createElement("span"), about = document.createElement("span");
    title.textContent = entry.case;
    about.className = "quiet";
    about.textContent = entry.modality + ", " + entry.group;
    numbers.className = "numbers";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Enlarge";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", "Enlarge " + entry.case);
    button.addEventListener("click", () => button.setAttribute("aria-pressed", String(element.classList.toggle("large"))));
    header.append(title, about, button, numbers);
    const panes = document.createElement("div");
    panes.className = "panes";
    const captions = [], canvases = kinds.map(function (kind) {
      const pane = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
      pane.className = "pane";
      canvas.width = 2 * entry.width;
      canvas.height = 2 * entry.height;
      canvas.style.aspectRatio = String(entry.aspect);
      canvas.setAttribute("role", "img");
      caption.textContent = kind;
      captions.push(caption);
      pane.append(canvas, caption);
      panes.append(pane);
      return canvas;
    });
    element.append(header, panes);
    return { entry, element, canvases, panes: captions, numbers, visible: false };
  }

  const cards = gallery.cases.map(make);
  const cardOf = new Map(cards.map((card) => [card.element, card]));
  const refresh = (card) => loadImage(card).then(() => draw(card));
  const watcher = new IntersectionObserver(function (changes) {
    changes.forEach(function (change) {
      const card = cardOf.get(change.target);
      card.visible = change.isIntersecting;
      if (card.visible) refresh(card);
    });
  }, { rootMargin: "300px" });

  function arrange() {
    const [key, direction] = sort.value.split("-"), sign = direction === "down" ? -1 : 1;
    const value = function (card) {
      const found = prediction(card.entry);
      if (key === "case") return null;
      const wanted = found ? (key === "dice" ? found.mean_dice : found.mean_uncertainty) : null;
      return wanted === undefined ? null : wanted;
    };
    const shown = cards.filter((card) => !modality.value || card.entry.modality === modality.value);
    shown.sort(function (a, b) {
      const x = value(a), y = value(b);
      if (x !== null && y !== null && x !== y) return sign * (x - y);
      if ((x === null) !== (y === null)) return x === null ? 1 : -1;
      return a.entry.case.localeCompare(b.entry.case, undefined, { numeric: true });
    });
    holder.replaceChildren(...shown.map((card) => card.element));
    shown.forEach(describe);
    byId("gallery-status").textContent = shown.length + " cases, sorted by " + sort.selectedOptions[0].textContent + ".";
  }

  const redraw = () => cards.filter((card) => card.visible && card.element.isConnected).forEach(refresh);
  [...new Set(gallery.cases.map((entry) => entry.modality))].forEach((name) => modality.add(new Option(name)));
  byId("gallery-scale").style.background =
    "linear-gradient(to right, " + gallery.colours.map((colour) => "rgb(" + colour.join(" ") + ")").join(", ") + ")";
  opacity.addEventListener("input", function () {
    byId("gallery-opacity-value").textContent = opacity.value + " %";
    redraw();
  });
  [...toggles, outline].forEach((toggle) => toggle.addEventListener("change", redraw));
  [model, modality, sort].forEach((control) => control.addEventListener("change", () => { arrange(); redraw(); }));
  byId("gallery-controls").addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("beforeprint", () => Array.from(holder.children).slice(0, 12).forEach((card) => refresh(cardOf.get(card))));
  arrange();
  cards.forEach((card) => watcher.observe(card.element));
})();
