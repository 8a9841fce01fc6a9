// Mosaic and one by one, for lensdet.survey.grading.  Letters grade, Shift and a letter changes what is seen.
// grading_pictures.js comes before it.  Catalogues, file names and notes are text (textContent), never markup.

const AHEAD = 12;      // pictures that are asked for before they are looked at
const KEPT = 500;      // pictures, 20 to 50 kB each
const PATIENCE = 5000; // ms without an answer, after which that is said
const SITES = [
  ["L", "Legacy", (ra, dec) => `https://www.legacysurvey.org/viewer?ra=${ra}&dec=${dec}&layer=ls-dr10&zoom=16`],
  ["E", "ESASky", (ra, dec) => `https://sky.esa.int/esasky/?target=${ra}%20${dec}&fov=0.02&cooframe=J2000&sci=true`],
  ["A", "Aladin", (ra, dec) => `https://aladin.cds.unistra.fr/AladinLite/?target=${ra}%20${dec}&fov=0.02`],
  ["P", "Pan-STARRS", (ra, dec) => `https://ps1images.stsci.edu/cgi-bin/ps1cutouts?pos=${ra}%20${dec}&filter=color`],
];
const HELP = [
  ["Both views", [
    ["?", "this sheet"], ["Backspace", "undo"], ["Shift M", "mosaic, or one by one"], ["Shift S", "next stretch"],
    ["Shift I", "invert"], ["Shift C", "colour, or one band"], ["Shift H", "heat: what the network looks at"],
    ["+ −", "brightness"], ["] [", "contrast"], ["drag", "brightness across, contrast upwards"],
    ["Shift R", "as at first"], ["Shift F", "full screen"]]],
  ["One by one", [
    ["→ ←", "next, previous, without a grade"], ["Shift N", "note; Enter keeps it, Esc does not"],
    ["Shift L, E", "Legacy viewer, ESASky, in a tab of their own"], ["Shift A, P", "Aladin, Pan-STARRS"]]],
  ["Mosaic", [
    ["arrows", "move"], ["Space", "or a click: set aside for a second look; again: none"],
    ["Enter", "next screen; what was left alone gets the last class"]]],
];

function make(tag, name = "", text = "", inside = []) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  made.append(...inside);
  return made;
}

export default {
  render({ model, el }) {
    const me = crypto.getRandomValues(new Uint32Array(2)).join("-");
    const usual = { stretch: 1, invert: false, colour: true, heat: false, brightness: 0, contrast: 1 };
    const state = { view: "single", at: 0, busy: false, drawn: 0, note: "", gone: 0, ...usual };
    let about, marks = [], keys = {}, number = 0, waiting = new Map();
    const pictures = new Map(), asked = new Map(), heats = new Map();

    // What is on the screen.
    const root = make("div", "lensdet-grading");
    root.tabIndex = 0;
    root.setAttribute("role", "application");
    root.setAttribute("aria-label", "grading of lens candidates; ? shows the keys");
    root.dataset.lmSuppressShortcuts = "true";  // JupyterLab looks for it before it takes a key
    const [where, progress, how] = [make("strong"), make("progress"), make("span", "weak")];
    const button = (text, act) => {
      const made = make("button", "", text);
      made.tabIndex = -1;
      made.onclick = () => { act(); root.focus({ preventScroll: true }); };
      return made;
    };
    const other = button("", () => look("M")), body = make("div"), classes = make("div", "classes");
    const note = make("textarea"), said = make("div", "said"), help = make("div", "help");
    note.maxLength = 5000;
    note.setAttribute("aria-label", "note");
    said.setAttribute("aria-live", "polite");
    note.hidden = help.hidden = true;
    const bar = make("div", "bar", "", [where, progress, how, make("span", "space"), other,
      button("full screen", () => look("F")), button("keys: ?", () => press("?"))]);
    root.append(bar, body, classes, note, said, help);
    el.append(root);
    const say = (text, wrong = false) => { said.textContent = text; said.classList.toggle("wrong", wrong); };

    // Messages.
    function ask(what, more = {}) {
      number += 1;
      model.send({ ask: what, from: me, number, ...more });
      return new Promise((done) => waiting.set(number, done));
    }
    async function answered(promise, doing) {  // no key counts until the kernel has said that it is on the disk
      state.busy = true;
      const late = setTimeout(() => say(`The kernel does not answer: ${doing} is not saved yet, all before is.  It waits; ` +
        "if the kernel was stopped, run the cell again.", true), PATIENCE);
      const answer = await promise;
      clearTimeout(late);
      state.busy = false;
      if (answer.is === "error") say(`Not saved: ${answer.text}`, true);
      return answer.is === "error" ? null : answer;
    }
    function take(answer, buffers) {
      if (answer.marks && about) {
        for (const [k, mark] of answer.marks) marks[k] = mark ?? undefined;
        if (answer.to !== me) { frame(); if (state.view === "mosaic") label(); }
      }
      if (answer.to !== me) return;
      const done = waiting.get(answer.number);
      if (done) { waiting.delete(answer.number); done(answer); }
      if (answer.is === "pictures") {
        asked.delete(answer.item);
        const [grey, colour] = buffers.map((b) => b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength));
        pictures.set(answer.item, { ...answer, ...prepared(answer.about, grey, colour, state.view === "single") });
        for (const k of pictures.keys()) if (pictures.size > KEPT && !wanted().includes(k)) pictures.delete(k);
        if (shown().includes(answer.item)) draw(answer.item);
      } else if (answer.is === "heat") {
        if (answer.text) return say(`No heat map: ${answer.text}`, true);
        say("");
        createImageBitmap(new Blob([buffers[0]], { type: "image/jpeg" })).then((map) => {
          heats.set(answer.item, map);
          if (shown().includes(answer.item)) draw(answer.item);
        });
      }
    }

    // Which candidates: those of a screen of the mosaic, or one; and those that come after.
    const screen = (at = state.at) => {
      const first = at - (at % about.mosaic);
      return Array.from({ length: Math.min(about.mosaic, about.n - first) }, (_, k) => first + k);
    };
    const shown = () => state.view === "mosaic" ? screen() : state.at < about.n ? [state.at] : [];
    const open = (k) => !marks[k]?.grade;
    function following(k, n = 1) {  // what was set aside first, then what has no grade, from k on and round to it
      const round = Array.from({ length: about.n }, (_, step) => (k + step) % about.n);
      const aside = round.filter((i) => marks[i]?.aside);
      return (aside.length ? aside : round.filter(open)).slice(0, n);
    }
    const after = () => screen(Math.min(about.n - 1, screen().at(-1) + 1));
    const wanted = () => [...shown(), ...(state.view === "mosaic" ? after() : following((state.at + 1) % about.n, AHEAD))];
    function fetch() {
      for (const [now, some] of [[true, shown()], [false, wanted()]]) {
        const items = [...new Set(some)].filter((k) => !pictures.has(k) && !(now ? asked.get(k) : asked.has(k)));
        items.forEach((k) => asked.set(k, now));
        if (items.length) ask("pictures", { items, now });
      }
      const warm = state.heat ? shown().filter((k) => !heats.has(k)) : [];
      if (warm.length) {
        say("Computing heat maps; the first takes some ten seconds where the page does not have it.");
        warm.forEach((k) => heats.set(k, null));
        ask("heat", { items: warm, now: true });
      }
    }

    // Drawing.
    const tiles = new Map();  // canvases of a place, and how each is drawn
    function draw(k) {
      const picture = pictures.get(k);
      for (const { canvas, stretch, colour, main } of tiles.get(k) ?? []) {
        const here = colour ?? (state.colour && Boolean(picture?.colour));
        canvas.parentNode.hidden = colour === true && !picture?.colour;
        paint(canvas, picture, about.size, { ...state, stretch: stretch ?? STRETCHES[state.stretch], colour: here },
          (main || state.view === "mosaic") && heats.get(k));
        if (main && picture?.pixels) marksOnSky(canvas, picture.about, about.scale * about.size[1]);
      }
      if (state.view === "single" && k === state.at && picture && root.dataset.shown !== String(k)) {
        facts(picture);
        frame();
        state.drawn = performance.now();
        root.dataset.shown = k;
      }
    }
    function canvas(k, size, how) {
      const made = make("canvas");
      made.width = made.height = size;
      tiles.set(k, [...(tiles.get(k) ?? []), { canvas: made, ...how }]);
      drags(made, k);
      return made;
    }
    const table = make("table"), links = make("div", "links"), bad = make("div", "wrong");
    function facts({ cells, about: of, text }) {
      const placed = of?.ra != null && of?.dec != null;
      const rows = [...(cells ?? []), ...(placed ? [["RA, Dec", `${of.ra.toFixed(6)} ${of.dec.toFixed(6)}`]] : [])];
      table.replaceChildren(...rows.map(([name, value]) => make("tr", "", "", [make("td", "", name), make("td", "", value)])));
      bad.textContent = text ? `Cannot be read: ${text}` : "";
      links.replaceChildren(...(placed ? SITES : []).map(([key, name, url]) => {
        const made = make("a", "", name);
        Object.assign(made, { href: url(of.ra, of.dec), target: "_blank", rel: "noopener noreferrer", title: `Shift ${key}`, tabIndex: -1 });
        return made;
      }));
    }
    function single() {  // made once; which candidate it shows changes
      const figure = (text, inside) => make("figure", "", "", [inside, make("figcaption", "", text)]);
      const panels = [...STRETCHES.map((name) => figure(name, canvas(-1, 202, { stretch: name, colour: false }))),
        figure("g, r, i", canvas(-1, 202, { colour: true }))];
      const main = make("div", "main", "", [canvas(-1, 808, { main: true })]);
      return make("div", "single", "", [main, make("div", "panels", "", panels), make("div", "facts", "", [bad, table, links])]);
    }
    function layout() {
      tiles.clear();
      delete root.dataset.shown;
      if (state.view === "single") body.replaceChildren(single());
      else {
        const grid = make("div", "grid", "", screen().map((k) => {
          const tile = make("div", "tile", "", [canvas(k, 101, {}), make("span")]);
          tile.dataset.item = k;
          return tile;
        }));
        grid.style.gridTemplateColumns = `repeat(${columns()}, 1fr)`;
        body.replaceChildren(grid);
        root.dataset.shown = `screen ${screen()[0]}`;
        state.drawn = performance.now();
      }
      show();
    }
    const columns = () => Math.ceil(Math.sqrt(about.mosaic * 1.6));
    function show() {  // what is at state.at, and what is to come
      note.hidden = true;
      if (state.view === "single") {
        const [[, canvases]] = tiles;
        tiles.clear();
        tiles.set(state.at, canvases);
        canvases.forEach(({ canvas: some }) => { some.dataset.item = state.at; });
        state.note = marks[state.at]?.note ?? "";
      }
      shown().forEach(draw);
      frame();
      label();
      fetch();
    }
    function redraw() { shown().forEach(draw); frame(); }
    function label() {  // of the tiles of a mosaic
      for (const tile of body.querySelectorAll(".tile")) {
        const k = Number(tile.dataset.item), mark = marks[k];
        tile.className = `tile${k === state.at ? " here" : ""}${mark?.aside ? " aside" : ""}${mark?.grade ? " graded" : ""}`;
        tile.lastChild.textContent = mark?.grade ? [mark.grade, mark.subclass].filter(Boolean).join(" ") : mark?.aside ? "?" : "";
      }
    }
    function frame() {  // bar and buttons
      const done = marks.filter((mark) => mark?.grade).length, aside = marks.filter((mark) => mark?.aside).length;
      const at = state.view === "single" ? `${state.at + 1}` : `${screen()[0] + 1} to ${screen().at(-1) + 1}`;
      where.textContent = `${at} of ${about.n} · ${done} graded${aside ? ` · ${aside} set aside` : ""} · ${about.grader}`;
      Object.assign(progress, { max: about.n, value: done });
      const colour = state.colour && shown().some((k) => pictures.get(k)?.colour);
      how.textContent = [colour ? "g, r, i" : STRETCHES[state.stretch], state.invert && "inverted", state.heat && "heat"]
        .filter(Boolean).join(", ") + ` · brightness ${state.brightness.toFixed(2)} · contrast ${state.contrast.toFixed(2)}`;
      other.textContent = state.view === "single" ? "mosaic" : "one by one";
      const mark = marks[state.at];
      for (const made of classes.children)
        made.classList.toggle("on", Boolean(mark?.grade) && made.dataset.grade === mark.grade && made.dataset.subclass === mark.subclass);
    }

    // Grades.
    async function grade(said, doing) {
      const seconds = (performance.now() - state.drawn) / 1000 / (said.length || 1);
      const answer = await answered(ask("grade", { said, view: state.view, seconds }), doing);
      if (answer) say("");
      return answer;
    }
    async function give([major, subclass]) {
      if (state.busy || (state.view === "single" ? root.dataset.shown !== String(state.at) : !pictures.has(state.at))) return;
      const k = state.at, text = marks[k]?.note || (state.view === "single" ? state.note : "");
      if (!await grade([{ item: k, grade: major, subclass, note: text }], `${major} ${subclass}`)) return;
      if (state.view === "mosaic") return step(state.at === k ? Math.min(k + 1, screen().at(-1)) : state.at);
      [state.at] = [...following((state.at + 1) % about.n), state.at];
      if (!open(state.at)) say("All are graded.  ← looks at them again, Backspace takes the last grade back.");
      show();
    }
    async function toggle(k) {
      if (state.busy || !pictures.has(k)) return;
      state.at = k;
      const major = marks[k]?.aside ? about.classes.at(-1)[0] : "";
      await grade([{ item: k, grade: major }], "what was set aside");
      step(state.at);
    }
    function step(to) {  // within a screen of the mosaic
      state.at = to;
      label();
      frame();
    }
    async function finish() {
      const left = screen().filter((k) => !marks[k]);
      if (state.busy || screen().some((k) => !pictures.has(k))) return;
      if (left.length && !await grade(left.map((item) => ({ item, grade: about.classes.at(-1)[0] })), "this screen")) return;
      const next = [...Array(about.n).keys()].find((k) => k > screen().at(-1) && !marks[k]) ?? marks.findIndex((_, k) => !marks[k]);
      if (next >= 0) state.at = screen(next)[0];
      layout();
      if (next < 0) say(`All were looked at, ${marks.filter((mark) => mark?.aside).length} are set aside: Shift M shows these one by one.`);
    }
    async function undo() {
      const answer = !state.busy && await answered(ask("undo"), "what was taken back");
      if (!answer) return;
      if (answer.show == null) return say("Nothing to take back.");
      const turned = state.view === "mosaic" && !screen().includes(answer.show);
      state.at = answer.show;
      turned ? layout() : show();
      say("Taken back.");
    }
    function write(keep) {
      if (keep) {
        state.note = note.value;
        const mark = marks[state.at];
        if (mark?.grade) grade([{ ...mark, item: state.at, note: note.value }], "the note").then(frame);
        else say("The note goes with the grade.");
      }
      note.hidden = true;
      root.focus({ preventScroll: true });
    }

    // Keys.
    function look(letter) {
      const site = SITES.find(([key]) => key === letter), of = pictures.get(state.at)?.about;
      if (site && of?.ra != null) window.open(site[2](of.ra, of.dec), "_blank", "noopener");
      if (letter === "S") { state.stretch = (state.stretch + 1) % STRETCHES.length; state.colour = false; }
      if (letter === "I") state.invert = !state.invert;
      if (letter === "C") state.colour = !state.colour;
      if (letter === "H") { state.heat = !state.heat; fetch(); }
      if (letter === "R") Object.assign(state, usual);
      if (letter === "F") document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen();
      if (letter === "N" && state.view === "single" && !state.busy) {
        note.hidden = false;
        note.value = state.note;
        note.focus();
        return true;
      }
      if (letter === "M" && !state.busy) {
        state.view = state.view === "single" ? "mosaic" : "single";
        if (state.view === "single") [state.at] = [...following(state.at), state.at];
        layout();
      }
      redraw();
      return "SICHRNMFLEAP".includes(letter);
    }
    function move(by) {
      const to = state.at + by;
      if (state.view === "mosaic" && screen().includes(to)) step(to);
      else if (state.view === "single" && !state.busy && to >= 0 && to < about.n) {
        state.at = to;
        show();
      }
    }
    function press(key, shift) {
      if (key === "?" || (key === "Escape" && !help.hidden)) { help.hidden = !help.hidden; return true; }
      if (/^[a-z]$/i.test(key) && shift) return look(key.toUpperCase());
      if (keys[key.toLowerCase()]) { give(keys[key.toLowerCase()]); return true; }
      const mosaic = state.view === "mosaic", by = { ArrowRight: 1, ArrowLeft: -1 }[key];
      const light = { "+": 0.05, "=": 0.05, "-": -0.05, ArrowUp: 0.05, ArrowDown: -0.05 }[key], more = { "]": 1.1, "[": 1 / 1.1 }[key];
      if (key === "Backspace") undo();
      else if (by) move(by);
      else if (mosaic && { ArrowUp: 1, ArrowDown: 1 }[key]) move(key === "ArrowUp" ? -columns() : columns());
      else if (mosaic && key === " ") toggle(state.at);
      else if (mosaic && key === "Enter") finish();
      else if (light || more) { state.brightness += light ?? 0; state.contrast *= more ?? 1; redraw(); }
      else return key === " ";  // which would scroll
      return true;
    }
    root.addEventListener("keydown", (event) => {
      event.stopPropagation();  // no key falls through to the notebook
      if (!about || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target === note) {
        if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey)) { event.preventDefault(); write(event.key === "Enter"); }
        return;
      }
      const twice = event.repeat && !event.key.startsWith("Arrow") && !"+-=[]".includes(event.key);  // held down: once
      if (twice || press(event.key, event.shiftKey)) event.preventDefault();
    });
    for (const name of ["keyup", "keypress", "mousedown", "contextmenu"]) root.addEventListener(name, (event) => event.stopPropagation());
    root.addEventListener("mousedown", (event) => { if (!event.target.closest("textarea, a")) root.focus({ preventScroll: true }); });
    function drags(made, k) {
      let from = null;
      made.onpointerdown = (event) => {
        from = { x: event.clientX, y: event.clientY, ...state, moved: false };
        made.setPointerCapture(event.pointerId);
      };
      made.onpointermove = (event) => {
        if (!from) return;
        const [x, y] = [event.clientX - from.x, event.clientY - from.y];
        from.moved ||= Math.hypot(x, y) > 4;
        if (!from.moved) return;
        state.brightness = from.brightness + x / 300;
        state.contrast = from.contrast * 2 ** (-y / 100);
        cancelAnimationFrame(state.gone);
        state.gone = requestAnimationFrame(redraw);
      };
      made.onpointerup = () => {
        if (from && !from.moved && state.view === "mosaic") toggle(k);
        from = null;
      };
    }

    function begin(answer) {
      about = answer;
      state.view = about.view;
      const pairs = about.classes.flatMap(([major, some]) => some.map((name) => [major, name]));
      const cap = (pair, key) => {
        if (key) keys[key] = pair;
        const made = button("", () => give(pair));
        Object.assign(made.dataset, { grade: pair[0], subclass: pair[1] });
        made.append(...(key ? [make("kbd", "", key)] : []), ` ${pair[1] ? `${pair[0]}: ${pair[1]}` : pair[0]}`);
        classes.append(made);
      };
      about.classes.forEach(([major]) => cap([major, ""], [...major.toLowerCase()].find((c) => /[a-z]/.test(c) && !keys[c])));
      pairs.forEach((pair, k) => cap(pair, k < 10 ? String((k + 1) % 10) : ""));
      const grading = ["Grades", [...classes.children].flatMap((made) => made.firstChild.localName === "kbd"
        ? [[made.firstChild.textContent, made.lastChild.textContent.trim()]] : [])];
      const line = ([key, text]) => make("div", "", "", [make("span", "", "", [make("kbd", "", key)]), make("span", "", text)]);
      help.replaceChildren(...[grading, ...HELP].flatMap(([title, lines]) => [make("h4", "", title), ...lines.map(line)]));
      if (!about.n) return say("The list is empty.", true);
      state.at = (state.view === "single" ? following(0) : [...Array(about.n).keys()].filter((k) => !marks[k]))[0] ?? 0;
      layout();
      if (marks.some(Boolean)) say(`Taken up again: ${marks.filter((mark) => mark?.grade).length} are graded.`);
      root.focus({ preventScroll: true });
    }
    model.on("msg:custom", take);
    ask("begin").then((answer) => {
      for (const [k, mark] of answer.marks ?? []) marks[k] = mark;
      answer.is === "error" ? say(answer.text, true) : begin(answer);
    });
    return () => { model.off("msg:custom", take); };
  },
};
