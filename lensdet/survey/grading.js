// Grading in a notebook, for lensdet.survey.grading: one by one, messages and grades.  grading_pictures.js, grading_keys.js
// and grading_mosaic.js come before it.  Catalogues, file names and notes are text (textContent), never markup.

const AHEAD = 12;      // pictures that are asked for before they are looked at
const KEPT = 500;      // pictures, 20 to 50 kB each
const PATIENCE = 5000; // ms without an answer, after which that is said

function make(tag, name = "", text = "", inside = []) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  made.append(...inside);
  return made;
}

function messages(w) {
  const { state, marks, me, pictures, asked, heats, bad } = w, waiting = new Map();
  let number = 0;
  w.ask = (what, more = {}) => {
    number += 1;
    w.model.send({ ask: what, from: me, number, ...more });
    return new Promise((done) => waiting.set(number, done));
  };
  w.answered = async (promise, doing) => {
    const late = setTimeout(() => w.say(`The kernel does not answer: ${doing} is not saved yet, all before is.  It waits; ` +
      "if the kernel was stopped, run the cell again.", true), PATIENCE);
    const answer = await promise;
    clearTimeout(late);
    if (answer.is === "error") w.say(`Not saved: ${answer.text}`, true);
    return answer.is === "error" ? null : answer;
  };
  w.saved = async (promise, doing) => {  // no key counts until the kernel has said that it is on the disk
    state.busy = true;
    const answer = await w.answered(promise, doing);
    state.busy = false;
    return answer;
  };
  w.take = (answer, buffers) => {
    if (answer.marks && w.about) {
      for (const [k, mark] of answer.marks) marks[k] = mark ?? undefined;
      if (answer.to !== me) { w.frame(); if (state.view === "mosaic") w.label(); }
    }
    if (answer.to !== me) return;
    const done = waiting.get(answer.number);
    if (done) { waiting.delete(answer.number); done(answer); }
    if (answer.is === "pictures") picture(answer, buffers);
    else if (answer.is === "heat") heat(answer, buffers);
  };
  function picture(answer, buffers) {
    const k = answer.item;
    asked.delete(k);
    const [grey, colour] = buffers.map((b) => b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength));
    grey ? bad.delete(k) : bad.set(k, answer.text);
    pictures.set(k, { ...answer, ...prepared(answer.about, grey, colour, state.view === "single") });
    for (const old of pictures.keys()) if (pictures.size > KEPT && !w.wanted().includes(old)) pictures.delete(old);
    if (!w.shown().includes(k)) return;
    w.draw(k);
    if (!grey && state.view === "mosaic") w.label();
  }
  function heat(answer, buffers) {
    if (answer.text) return w.say(`No heat map: ${answer.text}`, true);
    w.say("");
    createImageBitmap(new Blob([buffers[0]], { type: "image/jpeg" })).then((map) => {
      heats.set(answer.item, map);
      if (w.shown().includes(answer.item)) w.draw(answer.item);
    });
  }
  w.fetch = () => {
    for (const [now, some] of [[true, w.shown()], [false, w.wanted()]]) {
      const items = [...new Set(some)].filter((k) => !pictures.has(k) && !(now ? asked.get(k) : asked.has(k)));
      items.forEach((k) => asked.set(k, now));
      if (items.length) w.ask("pictures", { items, now });
    }
    const warm = state.heat ? w.shown().filter((k) => !heats.has(k)) : [];
    if (warm.length) {
      w.say("Computing heat maps; the first takes some ten seconds where the page does not have it.");
      warm.forEach((k) => heats.set(k, null));
      w.ask("heat", { items: warm, now: true });
    }
  };
}

// Which candidates: those of a screen of the mosaic, or one; and those that come after.
function choice(w) {
  const { state, marks } = w;
  w.shown = () => state.view === "mosaic" ? w.screen() : state.at < w.about.n ? [state.at] : [];
  w.open = (k) => !marks[k]?.grade;
  w.following = (k, n = 1) => {  // what was set aside first, then what has no grade, from k on and round to it
    const round = Array.from({ length: w.about.n }, (_, step) => (k + step) % w.about.n);
    const aside = round.filter((i) => marks[i]?.aside);
    return (aside.length ? aside : round.filter(w.open)).slice(0, n);
  };
  w.wanted = () => [...w.shown(), ...(state.view === "mosaic" ? w.after() : w.following((state.at + 1) % w.about.n, AHEAD))];
}

function drawing(w) {
  const { root, body, state, pictures, heats } = w;
  const tiles = new Map();  // canvases of a place, and how each is drawn
  const table = make("table"), links = make("div", "links"), bad = make("div", "wrong");
  w.draw = (k) => {
    const picture = pictures.get(k), { about } = w;
    for (const { canvas, stretch, colour, main } of tiles.get(k) ?? []) {
      const here = colour ?? (state.colour && Boolean(picture?.colour));
      canvas.parentNode.hidden = colour === true && !picture?.colour;
      const map = state.heat && (main || state.view === "mosaic") && heats.get(k);
      paint(canvas, picture, about.size, { ...state, stretch: stretch ?? STRETCHES[state.stretch], colour: here }, map);
      if (picture?.pixels) marksOnSky(canvas, picture.about, about.scale * about.size[1], state.invert && !map);
    }
    if (state.view === "single" && k === state.at && picture && root.dataset.shown !== String(k)) {
      facts(picture);
      w.frame();
      state.drawn = performance.now();
      root.dataset.shown = k;
    }
  };
  w.canvas = (k, size, how) => {
    const made = make("canvas");
    made.width = made.height = size;
    tiles.set(k, [...(tiles.get(k) ?? []), { canvas: made, ...how }]);
    drags(w, made, k);
    return made;
  };
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
    const panels = [...STRETCHES.map((name) => figure(name, w.canvas(-1, 202, { stretch: name, colour: false }))),
      figure("g, r, i", w.canvas(-1, 202, { colour: true }))];
    const main = make("div", "main", "", [w.canvas(-1, 808, { main: true })]);
    return make("div", "single", "", [main, make("div", "panels", "", panels), make("div", "facts", "", [bad, table, links])]);
  }
  w.layout = () => {
    tiles.clear();
    delete root.dataset.shown;
    body.replaceChildren(state.view === "single" ? single() : w.grid());
    if (state.view === "mosaic") {
      root.dataset.shown = `screen ${w.screen()[0]}`;
      state.drawn = performance.now();
    }
    w.show();
  };
  w.show = () => {  // what is at state.at, and what is to come
    w.closeNote(true);
    if (state.view === "single") {
      const [[, canvases]] = tiles;
      tiles.clear();
      tiles.set(state.at, canvases);
      canvases.forEach(({ canvas: some }) => { some.dataset.item = state.at; });
    }
    w.redraw();
    w.label();
    w.fetch();
  };
  w.redraw = () => { w.shown().forEach(w.draw); w.frame(); };
}

// Bar and buttons.
function frames(w, where, progress, how, other) {
  const { state, marks } = w;
  w.frame = () => {
    const done = marks.filter((mark) => mark?.grade).length, aside = marks.filter((mark) => mark?.aside).length;
    const at = state.view === "single" ? `${state.at + 1}` : `${w.screen()[0] + 1} to ${w.screen().at(-1) + 1}`;
    where.textContent = `${at} of ${w.about.n} · ${done} graded${aside ? ` · ${aside} set aside` : ""} · ${w.about.grader}`;
    Object.assign(progress, { max: w.about.n, value: done });
    const colour = state.colour && w.shown().some((k) => w.pictures.get(k)?.colour);
    const changed = ["brightness", "contrast"].filter((what) => Math.abs(state[what] - w.usual[what]) > 0.001);
    how.textContent = [colour ? "g, r, i" : STRETCHES[state.stretch], state.invert && "inverted", state.heat && "heat",
      ...changed.map((what) => `${what} ${state[what].toFixed(2)}`)].filter(Boolean).join(", ");
    other.textContent = state.view === "single" ? "mosaic" : "one by one";
    const mark = marks[state.at];
    for (const made of w.classes.children)
      made.classList.toggle("on", Boolean(mark?.grade) && made.dataset.grade === mark.grade && made.dataset.subclass === mark.subclass);
  };
}

function grades(w) {
  const { root, state, marks, note } = w;
  let noting = 0;  // the place that the note is of
  w.grade = async (said, doing, leave = "nothing") => {
    const seconds = (performance.now() - state.drawn) / 1000 / (said.length || 1);
    const answer = await w.saved(w.ask("grade", { said, view: state.view, seconds, leave }), doing);
    if (answer) w.say("");
    return answer;
  };
  w.give = async ([major, subclass]) => {
    if (state.busy || (state.view === "single" ? root.dataset.shown !== String(state.at) : !w.pictures.has(state.at))) return;
    const k = state.at, text = note.hidden ? {} : { note: note.value };  // without, the kernel keeps what there is
    if (!await w.grade([{ item: k, grade: major, subclass, ...text }], `${major} ${subclass}`)) return;
    note.hidden = true;
    if (state.view === "mosaic") return w.step(state.at === k ? Math.min(k + 1, w.screen().at(-1)) : state.at);
    [state.at] = [...w.following((state.at + 1) % w.about.n), state.at];
    if (!w.open(state.at)) w.say("All are graded.  ← looks at them again, Backspace takes the last grade back.");
    w.show();
  };
  w.undo = async () => {
    const answer = !state.busy && await w.saved(w.ask("undo"), "what was taken back");
    if (!answer) return;
    if (answer.show == null) return w.say("Nothing to take back.");
    const turned = state.view === "mosaic" && !w.screen().includes(answer.show);
    state.at = answer.show;
    turned ? w.layout() : w.show();
    w.say(answer.done ? "Taken back." : "Another tab has graded this since: left as it is.");
  };
  w.openNote = () => {
    noting = state.at;
    note.hidden = false;
    note.value = marks[noting]?.note ?? "";
    note.focus();
  };
  w.closeNote = async (keep) => {  // a note is logged at once, whether there is a grade or not
    if (note.hidden) return;
    const k = noting, text = note.value;
    note.hidden = true;
    w.focus();
    if (!keep || text === (marks[k]?.note ?? "")) return;
    const answer = await w.answered(w.ask("note", { item: k, note: text }), "the note");
    if (answer) { w.say("The note is saved."); w.frame(); } else if (state.at === k) note.hidden = false;
  };
}

function begin(w, answer) {
  const { state, marks, classes } = w, about = w.about = answer, { keys, pairs } = keysOf(about.classes);
  Object.assign(w, { keys });
  state.view = about.view;
  const lines = [];
  for (const pair of pairs) {
    const key = [...keys].find(([, other]) => other === pair)?.[0], text = pair.filter(Boolean).join(": ");
    const made = w.button("", () => w.give(pair));
    Object.assign(made.dataset, { grade: pair[0], subclass: pair[1] });
    made.append(...(key ? [make("kbd", "", key)] : []), ` ${text}`);
    classes.append(made);
    if (key) lines.push([key, text]);
  }
  const line = ([key, text]) => make("div", "", "", [make("span", "", "", [make("kbd", "", key)]), make("span", "", text)]);
  w.help.replaceChildren(...[["Grades", lines], ...HELP].map(([title, some]) =>
    make("section", "", "", [make("h4", "", title), ...some.map(line)])));
  if (!about.n) return w.say("The list is empty.", true);
  state.at = (state.view === "single" ? w.following(0) : [...Array(about.n).keys()].filter((k) => !marks[k]))[0] ?? 0;
  w.layout();
  const told = marks.some(Boolean) ? [`Taken up again: ${marks.filter((mark) => mark?.grade).length} are graded.`] : [];
  if (about.lost) told.push(`${about.lost} controls are left out: their galaxies are not in the list any more.`);
  w.say(told.join("  "), Boolean(about.lost));
  w.focus();
}

export default {
  render({ model, el }) {
    const usual = { stretch: 1, invert: false, colour: true, heat: false, brightness: 0, contrast: 1 };
    const root = make("div", "lensdet-grading"), said = make("div", "said");
    const w = {  // what the parts share; they add their functions to it
      model, root, usual, me: crypto.getRandomValues(new Uint32Array(2)).join("-"), about: null, marks: [], keys: new Map(),
      state: { view: "single", at: 0, busy: false, drawn: 0, gone: 0, ...usual },
      pictures: new Map(), asked: new Map(), heats: new Map(), bad: new Map(),  // bad: why a picture cannot be read
      body: make("div"), classes: make("div", "classes"), note: make("textarea"), help: make("div", "help"),
      say: (text, wrong = false) => { said.textContent = text; said.classList.toggle("wrong", wrong); },
      focus: () => root.focus({ preventScroll: true }),
    };
    w.button = (text, act) => {
      const made = make("button", "", text);
      made.tabIndex = -1;
      made.onclick = () => { act(); w.focus(); };
      return made;
    };
    root.tabIndex = 0;
    root.setAttribute("role", "application");
    root.setAttribute("aria-label", "grading of lens candidates; ? shows the keys");
    root.dataset.lmSuppressShortcuts = "true";  // JupyterLab looks for it before it takes a key
    w.note.maxLength = 5000;
    w.note.setAttribute("aria-label", "note");
    said.setAttribute("aria-live", "polite");
    w.note.hidden = w.help.hidden = true;
    const [where, progress, how] = [make("strong"), make("progress"), make("span", "weak")];
    const other = w.button("", () => w.look("M"));
    for (const part of [messages, choice, mosaic, drawing, grades, keyboard]) part(w);
    frames(w, where, progress, how, other);
    const bar = make("div", "bar", "", [where, progress, how, make("span", "space"), other,
      w.button("full screen", () => w.look("F")), w.button("keys: ?", () => w.press("?"))]);
    root.append(bar, w.body, w.classes, w.note, said, w.help);
    el.append(root);
    model.on("msg:custom", w.take);
    w.ask("begin").then((answer) => {
      for (const [k, mark] of answer.marks ?? []) w.marks[k] = mark;
      answer.is === "error" ? w.say(answer.text, true) : begin(w, answer);
    });
    return () => { model.off("msg:custom", w.take); };
  },
};
