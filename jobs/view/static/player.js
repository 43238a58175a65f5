// The audio, and who wants to know where it is. Times in ms.
const audio = byId("audio");
const player = {
  listeners: [], // told the time, every frame while it plays
  jumps: [], // told after a jump
  // Where the page stands without audio, so that reading along works all the same.
  place: 0,
  usable: false,
  get now() {
    return this.usable ? audio.currentTime * 1000 : this.place;
  },
  seek(ms) {
    this.place = Math.min(Math.max(0, ms), data.duration);
    if (this.usable) audio.currentTime = this.place / 1000;
    else this.wanted = this.place;
    this.tell();
    for (const listener of this.jumps) listener();
  },
  wanted: null,
  play() {
    // Refused before the first click on the page, or while the audio is not there yet.
    audio.play().catch(() => {});
  },
  toggle() {
    if (audio.paused) this.play();
    else audio.pause();
  },
  tell() {
    const now = this.now;
    byId("now").textContent = clock(now);
    for (const listener of this.listeners) listener(now);
  },
};

function load(addresses) {
  player.usable = false;
  audio.replaceChildren();
  audio.removeAttribute("src");
  for (const address of addresses) {
    const source = make("source");
    source.src = address;
    audio.append(source);
  }
  // The last one failed: none can be played.
  audio.lastElementChild?.addEventListener("error", () => noAudio(true));
  noAudio(addresses.length === 0);
  audio.load();
}

function noAudio(missing) {
  byId("no-audio").hidden = !missing;
  byId("play").disabled = missing;
}

audio.addEventListener("loadedmetadata", () => {
  player.usable = true;
  noAudio(false);
  audio.playbackRate = Number(byId("speed").value);
  if (player.wanted !== null) audio.currentTime = player.wanted / 1000;
  player.wanted = null;
});

function everyFrame() {
  player.tell();
  if (!audio.paused) requestAnimationFrame(everyFrame);
}
audio.addEventListener("play", () => {
  document.body.classList.add("playing");
  byId("play").setAttribute("aria-label", "Pause");
  requestAnimationFrame(everyFrame);
});
audio.addEventListener("pause", () => {
  document.body.classList.remove("playing");
  byId("play").setAttribute("aria-label", "Play");
});
audio.addEventListener("seeked", () => player.tell());

byId("play").addEventListener("click", () => player.toggle());
byId("speed").addEventListener("change", (event) => {
  audio.playbackRate = Number(event.target.value);
});
byId("audio-file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) load([URL.createObjectURL(file)]);
});
