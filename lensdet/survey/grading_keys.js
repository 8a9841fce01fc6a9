// Keys and drags of grading: letters grade, Shift and a letter changes what is seen.

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
    ["arrows", "move; in a stamp the bar is 5″, the stroke points north"], ["Space", "or a click: set aside for a second look; again: none"],
    ["Enter", "next screen; what was left alone gets the last class"]]],
];

// The key of each class, pairs of major and subclass: of majors a digit or letter of their name, or any that is free;
// of subclasses the free digits from 1 on.
function keysOf(classes) {
  const keys = new Map(), majors = classes.map(([major]) => [major, ""]);
  const pairs = classes.flatMap(([major, some]) => some.map((name) => [major, name]));
  const take = (pair, from) => {
    const key = from.find((c) => !keys.has(c));
    if (key) keys.set(key, pair);
    return Boolean(key);
  };
  const own = ([name], what) => [...name.toLowerCase()].filter((c) => what.test(c));
  const [short, long] = [majors.filter(([name]) => name.length === 1), majors.filter(([name]) => name.length > 1)];
  const others = [...short, ...long].filter((pair) => !take(pair, [...own(pair, /[0-9]/), ...own(pair, /[a-z]/)]));
  pairs.forEach((pair) => take(pair, [..."1234567890"]));
  others.forEach((pair) => take(pair, [..."abcdefghijklmnopqrstuvwxyz1234567890"]));
  return { keys, pairs: [...majors, ...pairs] };
}

function keyboard(w) {
  const { root, state, note, help } = w;
  w.look = (letter) => {
    const site = SITES.find(([key]) => key === letter), of = w.pictures.get(state.at)?.about;
    if (site && of?.ra != null) window.open(site[2](of.ra, of.dec), "_blank", "noopener,noreferrer");
    if (letter === "S") { state.stretch = (state.stretch + 1) % STRETCHES.length; state.colour = false; }
    if (letter === "I") state.invert = !state.invert;
    if (letter === "C") state.colour = !state.colour;
    if (letter === "H") { state.heat = !state.heat; w.fetch(); }
    if (letter === "R") Object.assign(state, w.usual);
    if (letter === "F") document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen();
    if (letter === "N" && state.view === "single" && !state.busy) {
      w.openNote();
      return true;
    }
    if (letter === "M" && !state.busy) {
      state.view = state.view === "single" ? "mosaic" : "single";
      if (state.view === "single") [state.at] = [...w.following(state.at), state.at];
      w.layout();
    }
    w.redraw();
    return "SICHRNMFLEAP".includes(letter);
  };
  function move(by) {
    const to = state.at + by;
    if (state.view === "mosaic" && w.screen().includes(to)) w.step(to);
    else if (state.view === "single" && !state.busy && to >= 0 && to < w.about.n) {
      state.at = to;
      w.show();
    }
  }
  w.press = (key, shift) => {
    if (key === "?" || (key === "Escape" && !help.hidden)) { help.hidden = !help.hidden; return true; }
    if (/^[a-z]$/i.test(key) && shift) return w.look(key.toUpperCase());
    if (w.keys.has(key.toLowerCase())) { w.give(w.keys.get(key.toLowerCase())); return true; }
    const mosaic = state.view === "mosaic", by = { ArrowRight: 1, ArrowLeft: -1 }[key];
    const light = { "+": 0.05, "=": 0.05, "-": -0.05, ArrowUp: 0.05, ArrowDown: -0.05 }[key], more = { "]": 1.1, "[": 1 / 1.1 }[key];
    if (key === "Backspace") w.undo();
    else if (by) move(by);
    else if (mosaic && { ArrowUp: 1, ArrowDown: 1 }[key]) move(key === "ArrowUp" ? -w.columns() : w.columns());
    else if (mosaic && key === " ") w.toggle(state.at);
    else if (mosaic && key === "Enter") w.finish();
    else if (light || more) { state.brightness += light ?? 0; state.contrast *= more ?? 1; w.redraw(); }
    else return key === " ";  // which would scroll
    return true;
  };
  root.addEventListener("keydown", (event) => {
    event.stopPropagation();  // no key falls through to the notebook
    if (!w.about || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === note) {
      if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey)) {
        event.preventDefault();
        w.closeNote(event.key === "Enter");
      }
      return;
    }
    const twice = event.repeat && !event.key.startsWith("Arrow") && !"+-=[]".includes(event.key);  // held down: once
    if (twice || w.press(event.key, event.shiftKey)) event.preventDefault();
  });
  for (const name of ["keyup", "keypress", "mousedown", "contextmenu"]) root.addEventListener(name, (event) => event.stopPropagation());
  root.addEventListener("mousedown", (event) => { if (!event.target.closest("textarea, a")) w.focus(); });
}

// Brightness and contrast by drags on the canvas of a place; a click of the mosaic sets aside.
function drags(w, canvas, k) {
  const { state } = w;
  let from = null;
  canvas.onpointerdown = (event) => {
    from = { x: event.clientX, y: event.clientY, ...state, moved: false };
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = (event) => {
    if (!from) return;
    const [x, y] = [event.clientX - from.x, event.clientY - from.y];
    from.moved ||= Math.hypot(x, y) > 4;
    if (!from.moved) return;
    state.brightness = from.brightness + x / 300;
    state.contrast = from.contrast * 2 ** (-y / 100);
    cancelAnimationFrame(state.gone);
    state.gone = requestAnimationFrame(w.redraw);
  };
  canvas.onpointerup = () => {
    if (from && !from.moved && state.view === "mosaic") w.toggle(k);
    from = null;
  };
}

