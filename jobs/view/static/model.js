// The recording: turns, words by time, and the corrections made so far.
const turns = data.turns;

// Words of all turns in the order of their start; `where` is [turn, word in it].
const words = turns
  .flatMap((turn, t) => turn.words.map(([, start, end], w) => ({ start, end, turn: t, word: w })))
  .sort((a, b) => a.start - b.start || a.end - b.end);

// The last index whose start is at or before `ms`, by binary search; -1 before the first.
function lastAt(items, ms) {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].start <= ms) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// Corrections: names by label, and the label that a turn was moved to by the turn's number.
const corrections = { names: new Map(Object.entries(data.names)), moves: new Map() };
for (const move of data.moves) {
  const at = turns.findIndex((t) => t.start === move.start && t.speaker === move.speaker);
  if (at >= 0) corrections.moves.set(at, move.to);
}

const heard = [...turns.map((turn) => turn.speaker), ...data.timeline.map(([, , label]) => label)];
const labels = [...new Set(heard)];
for (const label of corrections.moves.values()) if (!labels.includes(label)) labels.push(label);

const labelOf = (t) => corrections.moves.get(t) ?? turns[t].speaker;
const nameOf = (label) => corrections.names.get(label) ?? label;

function newLabel() {
  let number = labels.length + 1;
  while (labels.includes(`S${number}`)) number += 1;
  return `S${number}`;
}

// People as they are now: labels with one name are one person, first who speaks first.
function people() {
  const found = new Map();
  const add = (label) => {
    const name = nameOf(label);
    if (!found.has(name)) {
      const colour = labels.indexOf(label);
      found.set(name, { name, label, colour, speaking: 0, turns: 0, words: 0 });
    }
    return found.get(name);
  };
  turns.forEach((turn, t) => {
    const person = add(labelOf(t));
    person.speaking += turn.speaking;
    person.turns += 1;
    person.words += turn.words.length;
  });
  for (const [, , label] of timelineNow()) add(label);
  return [...found.values()];
}

// The timeline after the moves; as jobs/corrections.py does it.
function timelineNow() {
  const moved = new Map();
  for (const [t, target] of [...corrections.moves].sort((a, b) => a[0] - b[0])) {
    const { speaker, start, end } = turns[t];
    const own = turns.filter((turn) => turn.speaker === speaker);
    const before = Math.max(...own.filter((turn) => turn.start < start).map((turn) => turn.end));
    const after = Math.min(...own.filter((turn) => turn.start > start).map((turn) => turn.start));
    const from = Number.isFinite(before) ? Math.floor((before + start) / 2) : 0;
    const to = Number.isFinite(after) ? Math.floor((end + after) / 2) : Infinity;
    if (!moved.has(speaker)) moved.set(speaker, []);
    moved.get(speaker).push({ start, end, from, to, target });
  }
  const parts = [];
  for (const [first, end, label] of data.timeline) {
    let start = first;
    for (const move of moved.get(label) ?? []) {
      if (Math.min(end, move.end) <= Math.max(start, move.start)) continue;
      const cut = Math.max(start, move.from);
      const cutEnd = Math.min(end, move.to);
      parts.push([start, cut, label], [cut, cutEnd, move.target]);
      start = cutEnd;
    }
    parts.push([start, end, label]);
  }
  return parts.filter(([start, end]) => start < end);
}

// Where two people or more speak at once: [{start, end, names}], by start.
function overlaps(parts) {
  const changes = parts
    .flatMap(([start, end, label]) => [
      { at: start, by: 1, name: nameOf(label) },
      { at: end, by: -1, name: nameOf(label) },
    ])
    .sort((a, b) => a.at - b.at || a.by - b.by);
  const active = new Map();
  const found = [];
  let since = 0;
  for (const { at, by, name } of changes) {
    if (active.size > 1 && at > since) {
      const last = found.at(-1);
      const names = [...active.keys()];
      if (last && last.end === since && String(last.names) === String(names)) last.end = at;
      else found.push({ start: since, end: at, names });
    }
    active.set(name, (active.get(name) ?? 0) + by);
    if (!active.get(name)) active.delete(name);
    since = at;
  }
  return found;
}

// The correction file, as jobs/corrections.py documents it.
function correctionFile() {
  const said = {};
  for (const label of corrections.names.keys()) said[label] = [];
  turns.forEach((turn, t) => said[labelOf(t)]?.push([turn.start, turn.end]));
  return {
    schema: 1,
    id: data.id,
    key: data.key,
    names: Object.fromEntries(corrections.names),
    moves: [...corrections.moves].map(([t, to]) => ({
      start: turns[t].start,
      speaker: turns[t].speaker,
      to,
    })),
    heard: said,
  };
}

// Whoever shows something of the corrections is told when they change.
const changed = [];
const history = [];

function correct(change) {
  history.push({ names: new Map(corrections.names), moves: new Map(corrections.moves) });
  change();
  for (const listener of changed) listener();
}

function rename(label, name) {
  const clean = name.replace(/[\s\p{Cc}]+/gu, " ").trim();
  if (clean === nameOf(label)) return;
  correct(() => {
    // People who have become one are renamed as one.
    const together = labels.filter((other) => nameOf(other) === nameOf(label));
    for (const one of together) {
      if (clean && clean !== one) corrections.names.set(one, clean);
      else corrections.names.delete(one);
    }
  });
}

function moveTurn(t, label) {
  if (label === labelOf(t)) return;
  if (!labels.includes(label)) labels.push(label);
  correct(() => {
    if (label === turns[t].speaker) corrections.moves.delete(t);
    else corrections.moves.set(t, label);
  });
}

function undo() {
  const before = history.pop();
  if (!before) return;
  Object.assign(corrections, before);
  for (const listener of changed) listener();
}
