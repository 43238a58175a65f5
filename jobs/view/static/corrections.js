// Corrections: the dialog, and where they are kept. A served page posts them at once; one from
// the disk gives them as a file to download.
const dialog = byId("correct");
let subject = null; // who is renamed, and the turn from which, if any

function openCorrection(person, t) {
  subject = { person, turn: t };
  byId("correct-title").replaceChildren("Who is ", make("bdi", "", person.name), "?");
  byId("name").value = person.name;
  byId("move-part").hidden = t === undefined;
  if (t !== undefined) showChoices(t);
  hintOfMerge();
  dialog.showModal();
  byId("name").select();
}

function showChoices(t) {
  const unheard = { name: "somebody else", label: newLabel(), colour: labels.length };
  byId("move-title").textContent = `This turn alone, at ${clock(turns[t].start)}, was said by`;
  byId("choices").replaceChildren(
    ...[...lanes, unheard].map((person) => {
      const choice = make("button");
      choice.type = "button";
      choice.append(swatch(person), make("bdi", "", person.name));
      choice.setAttribute("aria-pressed", String(person.name === nameOf(labelOf(t))));
      choice.addEventListener("click", () => {
        dialog.close();
        moveTurn(t, person.label);
      });
      return choice;
    }),
  );
}

// A name that somebody else has makes the two one: say so before it happens.
function hintOfMerge() {
  const name = byId("name").value.trim();
  const other = lanes.some((person) => person.name === name && person.name !== subject.person.name);
  const hint = byId("merge-hint");
  hint.hidden = !other;
  const already = " already: the two become one speaker.";
  if (other) hint.replaceChildren("There is a ", make("bdi", "", name), already);
}

byId("name").addEventListener("input", hintOfMerge);
dialog.addEventListener("close", () => {
  if (dialog.returnValue === "rename") rename(subject.person.label, byId("name").value);
  dialog.returnValue = "";
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // beside it
});

function tellSaved(text, bad = false) {
  byId("save-state").textContent = text;
  byId("save-state").classList.toggle("bad", bad);
}

// One post after the other, so that the last state is the one that stays.
let posting = Promise.resolve();
function post() {
  const body = JSON.stringify(correctionFile());
  tellSaved("Saving …");
  posting = posting.then(async () => {
    try {
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch(data.save, { method: "POST", headers, body });
      if (answer.ok) tellSaved("Saved");
      else tellSaved(`Not saved: ${await answer.text()}`, true);
    } catch {
      tellSaved("Not saved: is `hansard view` still running?", true);
    }
  });
}

let unsaved = false;
byId("download").addEventListener("click", () => {
  const file = new Blob([JSON.stringify(correctionFile(), null, 1)], { type: "application/json" });
  const link = make("a");
  link.href = URL.createObjectURL(file);
  link.download = `${data.id}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
  unsaved = false;
  tellSaved(`Put ${data.id}.json into OUT/corrections`);
});
addEventListener("beforeunload", (event) => {
  if (unsaved) event.preventDefault();
});

changed.push(() => {
  byId("undo").hidden = history.length === 0;
  if (data.save) post();
  else {
    unsaved = true;
    byId("download").hidden = false;
    tellSaved("");
  }
});
byId("undo").addEventListener("click", undo);
byId("save-hint").textContent = data.save
  ? `Corrections are saved at once, to corrections/${data.id}.json in the output folder; ` +
    "hansard export and hansard tables honour them."
  : `Save corrections gives ${data.id}.json: put it into the folder corrections of the output ` +
    "folder; hansard export and hansard tables honour it.";
