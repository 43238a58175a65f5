// The timeline: a lane a person, stretches with overlap hatched, a quiet band of moods, and below
// it the whole recording with the window that the lanes show. Drawn on canvas: hours are thousands
// of stretches.
const AXIS = 20;
const MOOD = 18;
const SHORTEST_WINDOW = 5000;
const laneArea = byId("lane-area");
const overview = byId("overview");
const view = { from: 0, to: data.duration };
let lanes = [];
let stretches = [];
let together = [];
let laneHeight = 24;
let width = 1; // of the lanes, in pixels: asked once a drawing, not once a frame

// Moods in quiet colours; which side of the band's middle they take tells them apart, too.
const MOODS = {
  positive: ["--mood-warm", -1], happy: ["--mood-warm", -1], surprised: ["--mood-warm", -1],
  angry: ["--mood-sharp", 1], disgusted: ["--mood-sharp", 1],
  sad: ["--mood-cold", 1], fearful: ["--mood-cold", 1], negative: ["--mood-cold", 1],
};
const moodOf = (name) => MOODS[name] ?? ["--mood-other", 1];
const moods = turns.filter((turn) => turn.mood && turn.mood !== "neutral");

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const swatch = (person) => {
  const mark = make("i", person.colour >= COLOURS ? "swatch hollow" : "swatch");
  mark.dataset.c = person.colour % COLOURS;
  return mark;
};

function whoButton(person, title) {
  const button = make("button", "who");
  button.type = "button";
  button.title = title;
  button.append(swatch(person), make("bdi", "", person.name));
  return button;
}

// After a correction: lanes, stretches and overlaps anew.
function layOut() {
  lanes = people();
  const lane = new Map(lanes.map((person, at) => [person.name, at]));
  const parts = timelineNow();
  stretches = parts.map(([start, end, label]) => ({ start, end, lane: lane.get(nameOf(label)) }));
  together = overlaps(parts).map(({ start, end, names }) => ({
    start, end, lanes: names.map((name) => lane.get(name)),
  }));
  const roomy = innerWidth > 640 ? 26 : 22;
  laneHeight = lanes.length <= 6 ? roomy : roomy - 4;
  const spoken = lanes.reduce((sum, person) => sum + person.speaking, 0);
  const rows = lanes.map((person) => {
    const row = make("li");
    const who = whoButton(person, `Rename ${person.name}`);
    who.addEventListener("click", () => openCorrection(person));
    row.append(who, make("span", "share", percent(person.speaking, spoken)));
    return row;
  });
  if (moods.length) rows.push(make("li", "mood-row", "mood"));
  byId("gutter").replaceChildren(...rows);
  byId("gutter").style.setProperty("--lane", `${laneHeight}px`);
  draw();
}

function prepare(canvas, height) {
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  return pen;
}

const xOf = (ms) => ((ms - view.from) / (view.to - view.from)) * width;
const msAt = (x) => view.from + (x / width) * (view.to - view.from);

function draw() {
  width = laneArea.clientWidth;
  drawLanes();
  drawOverview();
  movePlayhead(player.now);
}

function drawLanes() {
  const bottom = lanes.length * laneHeight + (moods.length ? MOOD : 0);
  const pen = prepare(byId("lanes"), bottom + AXIS);
  const colours = [...Array(COLOURS)].map((_, c) => css(`--s${c}`));
  const [line, soft, paper] = [css("--line"), css("--soft"), css("--raised")];
  const shown = ({ start, end }) => end > view.from && start < view.to;
  const bar = laneHeight - 10;

  pen.fillStyle = css("--overlap");
  for (const { start, end } of together.filter(shown)) {
    pen.fillRect(xOf(start), 0, Math.max(0.6, xOf(end) - xOf(start)), lanes.length * laneHeight);
  }
  pen.fillStyle = line;
  for (const lane of lanes.keys()) pen.fillRect(0, (lane + 1) * laneHeight, width, 0.5);

  for (const { start, end, lane } of stretches.filter(shown)) {
    const colour = lanes[lane].colour;
    const x = xOf(start);
    const w = Math.max(1, xOf(end) - x);
    pen.fillStyle = colours[colour % COLOURS];
    pen.beginPath();
    pen.roundRect(x, lane * laneHeight + 5, w, bar, Math.min(3, w / 2));
    pen.fill();
    // From the ninth person on, colours come again with a light core.
    if (colour >= COLOURS && w > 3) {
      pen.fillStyle = paper;
      pen.fillRect(x, lane * laneHeight + 5 + bar / 3, w, bar / 3);
    }
  }
  pen.strokeStyle = paper;
  pen.lineWidth = 1.5;
  for (const { start, end, lanes: speaking } of together.filter(shown)) {
    const w = xOf(end) - xOf(start);
    if (w < 4) continue; // narrower, it would only eat the bar; the ground behind still tells
    for (const lane of speaking) hatch(pen, xOf(start), lane * laneHeight + 5, w, bar);
  }
  drawMoods(pen, lanes.length * laneHeight, shown);
  drawTicks(pen, bottom, line, soft);
  pen.fillStyle = css("--hit-now");
  for (const { start } of search.hits) pen.fillRect(xOf(start) - 1, bottom, 2, 6);
}

function hatch(pen, x, y, w, height) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, w, height);
  pen.clip();
  pen.beginPath();
  for (let at = x - height; at < x + w; at += 5) {
    pen.moveTo(at, y + height);
    pen.lineTo(at + height, y);
  }
  pen.stroke();
  pen.restore();
}

function drawMoods(pen, top, shown) {
  const middle = top + MOOD / 2;
  if (moods.length) {
    pen.fillStyle = css("--line");
    pen.fillRect(0, middle, width, 0.5);
  }
  for (const turn of moods.filter(shown)) {
    const [colour, side] = moodOf(turn.mood);
    pen.fillStyle = css(colour);
    const x = xOf(turn.start);
    pen.fillRect(x, side < 0 ? middle - 5 : middle + 1, Math.max(1.5, xOf(turn.end) - x), 4);
  }
}

function drawTicks(pen, top, line, soft) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
  const room = (view.to - view.from) / Math.max(2, width / 80);
  const step = 1000 * (steps.find((seconds) => seconds * 1000 >= room) ?? 28800);
  pen.fillStyle = line;
  pen.fillRect(0, top, width, 1);
  pen.font = `11px ${css("--ui")}`;
  pen.textBaseline = "middle";
  for (let ms = Math.ceil(view.from / step) * step; ms <= view.to; ms += step) {
    const text = clock(ms);
    const x = xOf(ms);
    pen.fillStyle = line;
    pen.fillRect(x, top, 1, 5);
    pen.fillStyle = soft;
    const half = pen.measureText(text).width / 2;
    const left = Math.min(Math.max(x - half, 2), width - 2 * half - 2);
    pen.fillText(text, left, top + 12);
  }
}

function drawOverview() {
  const height = overview.clientHeight;
  const pen = prepare(byId("overview-canvas"), height);
  const lane = height / Math.max(1, lanes.length);
  const colours = [...Array(COLOURS)].map((_, c) => css(`--s${c}`));
  for (const part of stretches) {
    const x = (part.start / data.duration) * width;
    pen.fillStyle = colours[lanes[part.lane].colour % COLOURS];
    const w = ((part.end - part.start) / data.duration) * width;
    pen.fillRect(x, part.lane * lane + lane * 0.15, Math.max(0.7, w), lane * 0.7);
  }
  const box = byId("window").style;
  box.left = `${(view.from / data.duration) * 100}%`;
  box.width = `${((view.to - view.from) / data.duration) * 100}%`;
  byId("window").hidden = view.to - view.from >= data.duration;
}

function movePlayhead(now) {
  byId("playhead").style.transform = `translateX(${xOf(now)}px)`;
  const area = laneArea;
  area.setAttribute("aria-valuemax", Math.round(data.duration / 1000));
  area.setAttribute("aria-valuenow", Math.round(now / 1000));
  area.setAttribute("aria-valuetext", clock(now));
}

function showWindow(from, length) {
  const span = Math.min(Math.max(length, Math.min(SHORTEST_WINDOW, data.duration)), data.duration);
  view.from = Math.min(Math.max(0, from), data.duration - span);
  view.to = view.from + span;
  draw();
}

function zoom(factor, around = player.now) {
  const length = view.to - view.from;
  const inside = around >= view.from && around <= view.to ? around : (view.from + view.to) / 2;
  showWindow(inside - (inside - view.from) * factor, length * factor);
}

// The zoomed window turns its page when the voice leaves it.
player.listeners.push((now) => {
  const length = view.to - view.from;
  const gone = now < view.from || now > view.to;
  if (gone && length < data.duration && !drag) showWindow(now - length * 0.1, length);
  else movePlayhead(now);
});

let drag = null;
laneArea.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  drag = { x: event.clientX, from: view.from, moved: false };
  laneArea.setPointerCapture(event.pointerId);
});
laneArea.addEventListener("pointermove", (event) => {
  const x = event.clientX - laneArea.getBoundingClientRect().left;
  if (drag && Math.abs(event.clientX - drag.x) > 4) drag.moved = true;
  if (drag?.moved) {
    laneArea.classList.add("dragging");
    const perPixel = (view.to - view.from) / width;
    showWindow(drag.from - (event.clientX - drag.x) * perPixel, view.to - view.from);
  }
  point(x, event);
});
laneArea.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved) {
    following.set(true);
    player.seek(msAt(event.clientX - laneArea.getBoundingClientRect().left));
  }
  drag = null;
  laneArea.classList.remove("dragging");
});
laneArea.addEventListener("pointercancel", () => {
  drag = null;
  laneArea.classList.remove("dragging");
});
laneArea.addEventListener("pointerleave", () => {
  byId("tip").hidden = true;
  byId("hover-line").hidden = true;
});
laneArea.addEventListener(
  "wheel",
  (event) => {
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    const x = event.clientX - laneArea.getBoundingClientRect().left;
    const length = view.to - view.from;
    if (event.ctrlKey || event.metaKey) zoom(Math.exp(event.deltaY / 300), msAt(x));
    else if (sideways) showWindow(view.from + (sideways / width) * length, length);
    else return;
    event.preventDefault();
  },
  { passive: false },
);

// What lies under the pointer: time, who, and how the turn begins.
function point(x, event) {
  const ms = msAt(x);
  const y = event.clientY - laneArea.getBoundingClientRect().top;
  const person = lanes[Math.floor(y / laneHeight)];
  const turn = turns.find(
    (one, t) => one.start <= ms && ms < one.end && (!person || nameOf(labelOf(t)) === person.name),
  );
  const tip = byId("tip");
  const parts = [clock(ms)];
  if (turn) {
    const begin = turn.words.slice(0, 9).map(([text]) => text).join(" ");
    parts.push(make("bdi", "", nameOf(labelOf(turns.indexOf(turn)))));
    if (!person && turn.mood) parts.push(turn.mood);
    parts.push(make("bdi", "", begin));
  }
  tip.replaceChildren(...parts.flatMap((part, at) => (at ? [" · ", part] : [part])));
  tip.hidden = false;
  byId("hover-line").hidden = false;
  byId("hover-line").style.transform = `translateX(${x}px)`;
  const score = tip.parentElement.getBoundingClientRect();
  const left = Math.min(event.clientX - score.left + 14, score.width - tip.offsetWidth - 6);
  tip.style.left = `${Math.max(6, left)}px`;
  tip.style.top = `${event.clientY - score.top + 18}px`;
}

function moveWindow(event) {
  const box = overview.getBoundingClientRect();
  const length = view.to - view.from;
  showWindow(((event.clientX - box.left) / box.width) * data.duration - length / 2, length);
}
overview.addEventListener("pointerdown", (event) => {
  overview.setPointerCapture(event.pointerId);
  if (view.to - view.from >= data.duration) {
    const box = overview.getBoundingClientRect();
    player.seek(((event.clientX - box.left) / box.width) * data.duration);
  } else moveWindow(event);
});
overview.addEventListener("pointermove", (event) => {
  const whole = view.to - view.from >= data.duration;
  if (overview.hasPointerCapture(event.pointerId) && !whole) moveWindow(event);
});
byId("zoom-in").addEventListener("click", () => zoom(0.5));
byId("zoom-out").addEventListener("click", () => zoom(2));
byId("zoom-fit").addEventListener("click", () => showWindow(0, data.duration));
