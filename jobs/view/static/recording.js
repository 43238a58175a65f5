// Puts the page together, and its keys.
function showPeople() {
  const spoken = lanes.reduce((sum, person) => sum + person.speaking, 0);
  const most = Math.max(...lanes.map((person) => person.speaking), 1);
  byId("people").replaceChildren(
    ...[...lanes].sort((a, b) => b.speaking - a.speaking).map((person) => {
      const item = make("li");
      const who = whoButton(person, `Rename ${person.name}`);
      who.addEventListener("click", () => openCorrection(person));
      const bar = make("div", person.colour >= COLOURS ? "bar hollow" : "bar");
      const filled = make("span");
      bar.dataset.c = person.colour % COLOURS;
      filled.style.width = `${(100 * person.speaking) / most}%`;
      bar.append(filled);
      const rate = person.speaking ? Math.round((60000 * person.words) / person.speaking) : 0;
      const detail = `${count(person.turns, "turn", "turns")}, ${rate} words a minute`;
      item.append(
        who,
        make("span", "figure", `${clock(person.speaking)} · ${percent(person.speaking, spoken)}`),
        bar,
        make("span", "detail", detail),
      );
      return item;
    }),
  );
  showMeasures();
  byId("fact-speakers").textContent = count(lanes.length, "speaker", "speakers");
  byId("fact-turns").textContent = count(turns.length, "turn", "turns");
}

function showMeasures() {
  const overlap = together.reduce((sum, part) => sum + part.end - part.start, 0);
  const byMood = new Map();
  for (const turn of moods) byMood.set(turn.mood, (byMood.get(turn.mood) ?? 0) + turn.speaking);
  const all = turns.flatMap((turn) => turn.words);
  const unsure = all.filter(([, , , confidence]) => confidence < data.uncertain).length;
  const rows = [
    ["two or more at once", clock(overlap)],
    ["unsure words", percent(unsure, words.length)],
  ];
  for (const [mood, ms] of [...byMood].sort((a, b) => b[1] - a[1])) rows.push([mood, clock(ms)]);
  byId("measures").replaceChildren(
    ...rows.flatMap(([what, much], row) => {
      const term = make("dt");
      if (row > 1) {
        const key = make("i", "mood-key");
        key.style.setProperty("--c", `var(${moodOf(what)[0]})`);
        term.append(key);
      }
      term.append(row === 1 ? make("span", "word unsure", what) : what);
      return [term, make("dd", "", much)];
    }),
  );
}

function showAll() {
  layOut();
  showSpeakers();
  showPeople();
}

const onKey = {
  " ": () => player.toggle(),
  ArrowLeft: () => player.seek(player.now - 5000),
  ArrowRight: () => player.seek(player.now + 5000),
  j: () => goToTurn(1),
  k: () => goToTurn(-1),
  "/": () => byId("query").select(),
  n: () => goToHit(1),
  N: () => goToHit(-1),
  e: () => turns.length && openCorrection(personOf(currentTurn), currentTurn),
  u: () => undo(),
  f: () => following.set(!following.on),
  t: () => theme.toggle(),
  "+": () => zoom(0.5),
  "=": () => zoom(0.5),
  "-": () => zoom(2),
  0: () => showWindow(0, data.duration),
  "?": () => byId("help").showModal(),
};
const SCROLLS = ["PageUp", "PageDown", "Home", "End", "ArrowUp", "ArrowDown"];

document.addEventListener("keydown", (event) => {
  const elsewhere = event.target.matches("input, select") || document.querySelector("dialog[open]");
  if (elsewhere || event.ctrlKey || event.metaKey || event.altKey) return;
  // Space presses the button that has the focus, as everywhere.
  if (event.key === " " && event.target.matches("button, summary, a")) return;
  if (SCROLLS.includes(event.key)) following.set(false);
  if (!Object.hasOwn(onKey, event.key)) return;
  event.preventDefault();
  onKey[event.key]();
});
byId("help-button").addEventListener("click", () => byId("help").showModal());

transcript.lang = data.language;
transcript.append(...turns.map(buildTurn));
if (!turns.length) transcript.append(make("p", "empty", "No speech was found in this recording."));
byId("note").append(...data.notes.map((note) => make("p", "", note)));
byId("note").hidden = data.notes.length === 0;
byId("people-details").open = innerWidth > 1000;
guessHeights();
showAll();
changed.push(showAll);
theme.listeners.push(draw);
load(data.audio);
player.tell();
reading.focus({ preventScroll: true });

let resizing = 0;
new ResizeObserver(() => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => {
    layOut();
    guessHeights();
  });
}).observe(laneArea.parentElement);
