// What both pages share. Text from recordings enters the page as text nodes only.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const COLOURS = 8;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const pad = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  const rest = pad(seconds % 60);
  return hours ? `${hours}:${pad(minutes)}:${rest}` : `${minutes}:${rest}`;
}

const percent = (part, whole) => `${whole ? Math.round((100 * part) / whole) : 0} %`;
const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

// Light, dark, or as the system: kept where the browser lets a page keep something.
const theme = {
  listeners: [],
  system: matchMedia("(prefers-color-scheme: dark)"),
  chosen: null,
  show() {
    const system = this.system.matches ? "dark" : "light";
    document.documentElement.dataset.theme = this.chosen ?? system;
    for (const listener of this.listeners) listener();
  },
  toggle() {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    this.chosen = next === (this.system.matches ? "dark" : "light") ? null : next;
    try {
      if (this.chosen) localStorage.setItem("hansard-theme", this.chosen);
      else localStorage.removeItem("hansard-theme");
    } catch {
      // No storage for a page from the disk in some browsers: the choice lasts as long as the page.
    }
    this.show();
  },
};
try {
  theme.chosen = localStorage.getItem("hansard-theme");
} catch {
  theme.chosen = null;
}
theme.system.addEventListener("change", () => theme.show());
theme.show();
byId("theme").addEventListener("click", () => theme.toggle());
