// The table of recordings: filtered, sorted, and filled a piece at a time.
const PIECE = 200;
const namesOf = ({ speakers }) => (speakers ?? []).map(([name]) => name);
const recordings = data.recordings.map((recording) => ({
  ...recording,
  when: recording.day ?? new Date(recording.date).toISOString().slice(0, 10),
  people: recording.speakers?.length ?? -1,
  text: [recording.title, recording.uri, recording.error, ...namesOf(recording)]
    .join("\n").toLowerCase(),
}));
let sorting = { key: "when", down: true };
let shown = [];

function compare(a, b) {
  const [x, y] = [a[sorting.key] ?? -1, b[sorting.key] ?? -1];
  const order = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
  const byName = a.title.localeCompare(b.title) || (a.id < b.id ? -1 : 1);
  return (sorting.down ? -order : order) || byName;
}

function cell(className, ...content) {
  const element = make("td", className);
  element.append(...content);
  return element;
}

function shares(recording) {
  const all = recording.speakers.reduce((sum, [, ms]) => sum + ms, 0);
  if (!all) return ["no speech"];
  const bar = make("div", "share-bar");
  let at = 0;
  const stops = recording.speakers.map(([, ms], s) => {
    const from = at;
    at += (100 * ms) / all;
    // A hair of paper between two people, so that no colour has to be told from its neighbour.
    const edge = `calc(${at}% - 1px)`;
    return `var(--s${s % COLOURS}) ${from}% ${edge}, var(--paper) ${edge} ${at}%`;
  });
  bar.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  const told = recording.speakers.map(([name, ms]) => `${name} ${percent(ms, all)}`).join(", ");
  bar.title = told;
  bar.role = "img";
  bar.ariaLabel = `Talk shares: ${told}`;
  const names = make("div", "share-names");
  const everyone = make("bdi", "", namesOf(recording).join(", "));
  names.append(`${recording.speakers.length}: `, everyone);
  return [names, bar];
}

function row(recording) {
  const failed = recording.error !== undefined;
  const element = make("tr", failed ? "failed" : "");
  const title = failed ? make("span", "name") : make("a");
  title.append(make("bdi", "", recording.title));
  if (!failed) title.href = `${encodeURIComponent(recording.id)}.html`;
  const name = cell("", title);
  if (recording.corrected) name.append(make("span", "tag", "corrected"));
  if (failed) name.append(make("div", "reason", `failed: ${recording.error}`));
  const where = make("span", "where");
  where.append(make("bdi", "", recording.uri));
  where.title = recording.uri;
  name.append(where);
  const date = cell("number", recording.when);
  date.title = recording.day ? "as the file's name says" : "when it was transcribed";
  element.append(
    name,
    date,
    cell("number", failed ? "" : clock(recording.duration)),
    cell("shares", ...(failed ? [] : shares(recording))),
    cell("number turns", failed ? "" : recording.turns.toLocaleString("en")),
  );
  return element;
}

function fill() {
  const have = byId("rows").childElementCount;
  byId("rows").append(...shown.slice(have, have + PIECE).map(row));
  byId("more").hidden = have + PIECE >= shown.length;
}

function show() {
  const wanted = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const onlyFailed = byId("only-failed").checked;
  shown = recordings
    .filter((one) => wanted.every((word) => one.text.includes(word)))
    .filter((one) => !onlyFailed || one.error !== undefined)
    .sort(compare);
  byId("rows").replaceChildren();
  const narrowed = shown.length < recordings.length;
  byId("shown").textContent = narrowed ? `${shown.length} of ${recordings.length}` : "";
  fill();
  for (const button of document.querySelectorAll("[data-sort]")) {
    const own = button.dataset.sort === sorting.key;
    button.closest("th").ariaSort = own ? (sorting.down ? "descending" : "ascending") : "none";
  }
}

document.querySelector("thead").addEventListener("click", (event) => {
  const key = event.target.closest("[data-sort]")?.dataset.sort;
  if (!key) return;
  sorting = { key, down: sorting.key === key ? !sorting.down : key !== "title" };
  show();
});
byId("filter").addEventListener("input", show);
byId("only-failed").addEventListener("change", show);
byId("more").addEventListener("click", fill);
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) fill();
}).observe(byId("more"));
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "t") theme.toggle();
  else if (event.key === "/") byId("filter").select();
  else return;
  event.preventDefault();
});

const failures = recordings.filter((one) => one.error !== undefined).length;
const hours = recordings.reduce((sum, one) => sum + (one.duration ?? 0), 0) / 3600000;
byId("totals").textContent = [
  count(recordings.length, "recording", "recordings"),
  `${hours.toLocaleString("en", { maximumFractionDigits: 1 })} hours`,
  ...(failures ? [`${failures} failed`] : []),
].join(" · ");
byId("only-failed").closest("label").hidden = !failures;
show();
