// The transcript: an article a turn, a span a word; the word that is heard is marked, and the text
// follows the voice until the reader scrolls.
const reading = byId("reading");
const transcript = byId("transcript");
const articles = [];
const spans = []; // spans[turn][word]

const wide = (character) => /[\u3000-\u9fff\uff00-\uffef]/.test(character);

// As join_words in pipeline/transcript.py: no space between Chinese or Japanese characters.
function glue(before, after) {
  return before && !(wide(before.at(-1)) && wide(after[0])) ? " " : "";
}

function buildTurn(turn, t) {
  const article = make("article", "turn");
  article.dataset.turn = t;
  const by = make("div", "by");
  const line = make("div", "line");
  const at = make("button", "at", clock(turn.start));
  at.type = "button";
  at.title = "Hear this turn";
  line.append(at);
  if (turn.mood && turn.mood !== "neutral") {
    const mood = make("span", "mood", turn.mood);
    const scores = Object.entries(turn.emotion).map(([name, p]) => `${name} ${percent(p, 1)}`);
    mood.title = scores.join(", ");
    line.append(mood);
  }
  by.append(line);
  const text = make("p");
  text.dir = "auto";
  let before = "";
  spans[t] = turn.words.map(([written, , , confidence], w) => {
    const space = glue(before, written);
    if (space) text.append(space);
    before = written;
    const span = make("span", confidence < data.uncertain ? "word unsure" : "word", written);
    span.word = w;
    text.append(span);
    return span;
  });
  article.append(by, text);
  articles[t] = article;
  return article;
}

function showSpeakers() {
  const byName = new Map(lanes.map((person) => [person.name, person]));
  turns.forEach((turn, t) => {
    const person = byName.get(nameOf(labelOf(t)));
    const shown = `${person.colour} ${person.name}`;
    const article = articles[t];
    article.classList.toggle("moved", corrections.moves.has(t));
    if (article.shown === shown) return;
    article.shown = shown;
    article.querySelector(".who")?.remove();
    article.firstChild.prepend(whoButton(person, "Correct who this is (e)"));
  });
}

// Browsers skip the layout of turns out of sight; a fair guess of their height keeps the scroll
// bar from jumping.
function guessHeights() {
  const width = transcript.clientWidth;
  const stacked = innerWidth <= 640;
  const column = Math.min(stacked ? width - 12 : width - 166, 600);
  turns.forEach((turn, t) => {
    const letters = turn.words.reduce((sum, [text]) => sum + text.length + 1, 0);
    const lines = Math.max(1, Math.ceil((letters * 8.1) / column));
    const height = stacked ? lines * 26.4 + 28 : Math.max(lines * 27.2, 42);
    articles[t].style.containIntrinsicSize = `auto ${Math.round(height)}px`;
  });
}

let currentTurn = -1;
let marked = [];

// The words heard at `now`, at least the last one for a moment after it.
function heardAt(now) {
  const last = lastAt(words, now);
  const heard = [];
  for (let at = last; at >= 0 && at > last - 12; at -= 1) {
    if (words[at].end > now) heard.push(words[at]);
  }
  if (!heard.length && last >= 0 && now - words[last].end < 300) heard.push(words[last]);
  return heard;
}

player.listeners.push((now) => {
  const heard = heardAt(now).map((word) => spans[word.turn][word.word]);
  for (const span of marked) if (!heard.includes(span)) span.classList.remove("now");
  for (const span of heard) span.classList.add("now");
  marked = heard;
  const turn = Math.max(0, lastAt(turns, now));
  if (turn !== currentTurn) {
    articles[currentTurn]?.classList.remove("current");
    articles[currentTurn]?.removeAttribute("aria-current");
    articles[turn]?.classList.add("current");
    articles[turn]?.setAttribute("aria-current", "true");
    currentTurn = turn;
  }
  if (following.on && !audio.paused) keepInSight(heard[0] ?? articles[turn]);
});

function keepInSight(element) {
  if (!element) return;
  const box = element.getBoundingClientRect();
  const frame = reading.getBoundingClientRect();
  if (box.top < frame.top + 40 || box.bottom > frame.top + frame.height * 0.75) bringTo(element);
}

player.jumps.push(() => {
  if (following.on) keepInSight(marked[0] ?? articles[currentTurn]);
});

const calm = matchMedia("(prefers-reduced-motion: reduce)");
let gliding = 0;

// Puts the element at a third of the height. Near ones glide; far ones jump, and once more when
// the turns there have been laid out.
function bringTo(element) {
  const distance = () => {
    const frame = reading.getBoundingClientRect();
    return element.getBoundingClientRect().top - frame.top - frame.height / 3;
  };
  const near = Math.abs(distance()) < reading.clientHeight && !calm.matches;
  if (near && performance.now() - gliding < 400) return;
  gliding = performance.now();
  reading.scrollBy({ top: distance(), behavior: near ? "smooth" : "instant" });
  const again = () => reading.scrollBy({ top: distance(), behavior: "instant" });
  if (!near) requestAnimationFrame(again);
}

// Following ends when the reader scrolls, and begins again on request.
const following = {
  on: true,
  set(on) {
    this.on = on;
    byId("follow").setAttribute("aria-pressed", String(on));
    byId("to-voice").hidden = on || audio.paused;
    if (on && articles.length) keepInSight(marked[0] ?? articles[Math.max(0, currentTurn)]);
  },
};
for (const kind of ["wheel", "touchmove"]) {
  reading.addEventListener(kind, () => following.set(false), { passive: true });
}
reading.addEventListener("pointerdown", (event) => {
  if (event.target === reading) following.set(false); // its scroll bar
});
for (const kind of ["play", "pause"]) {
  audio.addEventListener(kind, () => following.set(following.on));
}
byId("follow").addEventListener("click", () => following.set(!following.on));
byId("to-voice").addEventListener("click", () => following.set(true));

transcript.addEventListener("click", (event) => {
  const article = event.target.closest(".turn");
  if (!article || !getSelection().isCollapsed) return; // somebody marks text to copy it
  const t = Number(article.dataset.turn);
  if (event.target.word !== undefined) hear(turns[t].words[event.target.word][1]);
  else if (event.target.closest(".at")) hear(turns[t].start);
  else if (event.target.closest(".who")) openCorrection(personOf(t), t);
});

function hear(ms) {
  player.seek(ms);
  player.play();
}

// To the turn `step` further on, with the text in sight, playing or not.
function goToTurn(step) {
  const here = Math.max(0, lastAt(turns, player.now));
  // Back from inside a turn means to its beginning.
  const inside = step < 0 && player.now - (turns[here]?.start ?? 0) > 1500;
  const t = Math.min(Math.max(0, inside ? here : here + step), turns.length - 1);
  if (!turns[t]) return;
  player.seek(turns[t].start);
  following.set(true);
  keepInSight(articles[t]);
}

const personOf = (t) => lanes.find((person) => person.name === nameOf(labelOf(t)));
