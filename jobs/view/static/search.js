// Search through all words: case, accents and punctuation do not matter, and phrases may run over
// many words. Hits are painted as highlight ranges, so the page itself stays as it is.
const search = { hits: [], at: -1 };

// Of one length with the text, so that places stay places.
function fold(text) {
  let folded = "";
  for (let i = 0; i < text.length; i += 1) {
    const plain = /[\u00c0-\u024f]/.test(text[i]) ? text[i].normalize("NFD")[0] : text[i];
    const lower = plain.toLowerCase();
    folded += lower.length === 1 ? lower : plain;
  }
  return folded.replaceAll("’", "'");
}

// Where letters begin and end in a word: its marks at both ends do not count.
function core(text) {
  const letters = /[\p{L}\p{N}\p{M}](?:.*[\p{L}\p{N}\p{M}])?/su.exec(text);
  return letters ? [letters.index, letters.index + letters[0].length] : [0, text.length];
}

// One long text: words with what joins them, turns apart; `starts` finds a place's word again.
const haystack = (() => {
  const starts = [];
  let text = "";
  turns.forEach((turn, t) => {
    let before = "";
    turn.words.forEach(([written], w) => {
      const [from, to] = core(written);
      text += glue(before, written);
      before = written;
      starts.push({ start: text.length, turn: t, word: w, offset: from });
      text += fold(written.slice(from, to));
    });
    text += "\n";
  });
  return { text, starts };
})();

function find(query) {
  const wanted = fold(query).split(/\s+/).filter(Boolean)
    .map((word) => word.slice(...core(word)))
    .join(" ");
  const hits = [];
  if (!wanted) return hits;
  const next = (from) => haystack.text.indexOf(wanted, from);
  for (let at = next(0); at >= 0; at = next(at + wanted.length)) {
    const first = haystack.starts[lastAt(haystack.starts, at)];
    const last = haystack.starts[lastAt(haystack.starts, at + wanted.length - 1)];
    hits.push({
      turn: first.turn,
      start: turns[first.turn].words[first.word][1],
      first: [first.word, at - first.start + first.offset],
      last: [last.word, at + wanted.length - last.start + last.offset],
    });
  }
  return hits;
}

function rangeOf(hit) {
  const range = new Range();
  const [from, to] = [hit.first, hit.last].map(([word]) => spans[hit.turn][word].firstChild);
  range.setStart(from, Math.min(hit.first[1], from.length));
  range.setEnd(to, Math.min(hit.last[1], to.length));
  return range;
}

function paintHits() {
  const output = byId("hits");
  const query = byId("query").value.trim();
  if (!query) output.textContent = "";
  else if (!search.hits.length) output.textContent = "no hits";
  else if (search.at < 0) output.textContent = count(search.hits.length, "hit", "hits");
  else output.textContent = `${search.at + 1} of ${search.hits.length}`;
  if (CSS.highlights) {
    CSS.highlights.set("hit", new Highlight(...search.hits.map(rangeOf)));
    const now = search.hits[search.at];
    const current = new Highlight(...(now ? [rangeOf(now)] : []));
    current.priority = 1;
    CSS.highlights.set("hit-now", current);
  }
  drawLanes();
}

function goToHit(step) {
  if (!search.hits.length) return;
  const length = search.hits.length;
  if (search.at >= 0) search.at = (search.at + step + length) % length;
  else {
    // The first one asked for is the nearest after (before) where the reader is.
    const next = search.hits.findIndex((hit) => hit.start >= player.now);
    search.at = step > 0 ? Math.max(0, next) : (next < 0 ? length : next) - 1;
    if (search.at < 0) search.at = length - 1;
  }
  const hit = search.hits[search.at];
  following.set(false);
  if (audio.paused) player.seek(hit.start);
  bringTo(spans[hit.turn][hit.first[0]]);
  paintHits();
}

let waiting = 0;
byId("query").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    search.hits = find(byId("query").value);
    search.at = -1;
    paintHits();
  }, 80);
});
byId("query").addEventListener("keydown", (event) => {
  if (event.key === "Enter") goToHit(event.shiftKey ? -1 : 1);
  else if (event.key === "Escape") {
    event.target.value = "";
    event.target.dispatchEvent(new Event("input"));
    event.target.blur();
  } else return;
  event.preventDefault();
});
byId("next-hit").addEventListener("click", () => goToHit(1));
byId("previous-hit").addEventListener("click", () => goToHit(-1));
