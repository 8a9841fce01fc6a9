// The mosaic of grading: screens of stamps, what is set aside on them, and the last class for what was left alone.

function mosaic(w) {
  const { state, marks, pictures, bad } = w;
  w.screen = (at = state.at) => {
    const first = at - (at % w.about.mosaic);
    return Array.from({ length: Math.min(w.about.mosaic, w.about.n - first) }, (_, k) => first + k);
  };
  w.after = () => w.screen(Math.min(w.about.n - 1, w.screen().at(-1) + 1));
  w.columns = () => Math.ceil(Math.sqrt(w.about.mosaic * 1.6));
  w.grid = () => {
    const grid = make("div", "grid", "", w.screen().map((k) => {
      const tile = make("div", "tile", "", [w.canvas(k, 202, {}), make("span")]);
      tile.dataset.item = k;
      return tile;
    }));
    grid.style.gridTemplateColumns = `repeat(${w.columns()}, 1fr)`;
    return grid;
  };
  w.label = () => {
    for (const tile of w.body.querySelectorAll(".tile")) {
      const k = Number(tile.dataset.item), mark = marks[k];
      tile.className = `tile${k === state.at ? " here" : ""}${mark?.aside ? " aside" : ""}${mark?.grade ? " graded" : ""}`;
      const said = mark?.grade ? [mark.grade, mark.subclass].filter(Boolean).join(" ") : mark?.aside ? "?" : "";
      tile.title = bad.has(k) ? `Cannot be read: ${bad.get(k)}` : "";
      tile.lastChild.textContent = [said, tile.title.slice(0, 120)].filter(Boolean).join(" · ");
    }
  };
  w.step = (to) => {  // within a screen
    state.at = to;
    w.label();
    w.frame();
  };
  w.toggle = async (k) => {
    if (state.busy || !pictures.has(k)) return;
    state.at = k;
    const major = marks[k]?.aside ? w.about.classes.at(-1)[0] : "";
    if (!marks[k]?.grade) await w.grade([{ item: k, grade: major }], "what was set aside", "graded");
    w.step(state.at);
  };
  w.finish = async () => {
    if (state.busy || w.screen().some((k) => !pictures.has(k))) return;
    const alone = w.screen().filter((k) => !marks[k]), left = alone.filter((k) => !bad.has(k));
    const said = left.map((item) => ({ item, grade: w.about.classes.at(-1)[0] }));
    if (said.length && !await w.grade(said, "this screen", "marked")) return;
    const all = [...Array(w.about.n).keys()], open = all.filter((k) => !marks[k] && !bad.has(k));
    const next = open.find((k) => k > w.screen().at(-1)) ?? open[0];
    if (next !== undefined) state.at = w.screen(next)[0];
    w.layout();
    const unread = alone.length - left.length;
    const told = unread ? [`${unread} of the last screen cannot be read and were left without a grade.`] : [];
    if (next === undefined) told.push(`All were looked at, ${all.filter(w.open).length} have no grade yet: Shift M shows these one by one.`);
    w.say(told.join("  "), Boolean(unread));
  };
}

