"""Who speaks when: speaker embeddings grouped, and the groups laid out over the speech.

Method: 3D-Speaker's diarization (spectral or UMAP-HDBSCAN on 1.5 s windows, small groups
absorbed, similar ones merged), on windows blended with their neighbours; then every moment goes
to the most similar centroid.

The rule of `method: auto`: spectral, at every length. Above `condense_above` windows it groups
micro-clusters, so that time and memory stay bounded, and at every length that was measured it
was both faster and more accurate than UMAP-HDBSCAN: the curve is in benchmarks/README.md.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.records import Embeddings, Span, SpeakerSegment
from pipeline.stage import Inputs, Parameters, Stage
from stages.clustering.groups import (
    Closeness,
    Counts,
    Labels,
    Vectors,
    absorb_small,
    blended,
    centroids,
    merge_close,
    normalised,
    split_largest,
)
from stages.clustering.spectral import SpectralOptions, spectral
from stages.clustering.timeline import timeline
from stages.clustering.umap_hdbscan import UmapOptions, umap_hdbscan


class ClusteringParameters(Parameters):
    """Parameters of the clustering stage."""

    method: Literal["spectral", "umap-hdbscan", "auto"] = Field(
        "auto", description="auto: spectral, which measures better at every length"
    )
    speakers: int | None = Field(None, ge=1, description="the exact number of speakers, if known")
    min_speakers: int = Field(1, ge=1, description="at least so many speakers")
    max_speakers: int = Field(15, ge=1, description="at most so many speakers")
    seed: int = Field(0, ge=0, description="of k-means and of UMAP")
    merge_threshold: float = Field(
        0.9, ge=-1, le=1, description="speakers whose centroids have a greater cosine are one"
    )
    merge_doubt: float = Field(
        1.3,
        ge=0,
        description="so are those whose cosine differs from 1 by less than this over the square "
        "root of the number of windows of the one heard less",
    )
    blend: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of its neighbours that a window is blended with before it is grouped: "
        "helps the bundled embeddings in recordings of half an hour and more",
    )
    reliable_ms: int = Field(
        1000, ge=0, description="windows shorter than this do not take part in the clustering"
    )
    smallest_ms: int = Field(
        3000, ge=0, description="a speaker heard for less than this is absorbed by the others"
    )
    pruning: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.02, 0.05, 0.12),
        min_length=1,
        description="spectral: shares of each affinity row to keep; the clearest eigengap "
        "decides, of several about as clear the fewest speakers",
    )
    neighbours: int = Field(6, ge=1, description="spectral: at least so many are kept of a row")
    condense_above: int = Field(
        2000, ge=100, description="spectral: more windows than this are condensed to so many"
    )
    umap_neighbours: int = Field(16, ge=2, description="UMAP: n_neighbors")
    umap_components: int = Field(8, ge=2, description="UMAP: n_components")
    step_ms: int = Field(20, ge=1, le=1000, description="precision of speaker changes, in ms")
    shortest_ms: int = Field(
        400, ge=0, description="a shorter stretch between others is smoothed away, in ms"
    )

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        if self.min_speakers > self.max_speakers:
            raise ValueError(
                f"min_speakers {self.min_speakers} is above max_speakers {self.max_speakers}"
            )
        return self

    def counts(self) -> Counts:
        """`speakers` where it is given, else the bounds."""
        if self.speakers is not None:
            return Counts(self.speakers, self.speakers)
        return Counts(self.min_speakers, self.max_speakers)


class SpeakerClustering(Stage[ClusteringParameters, tuple[SpeakerSegment, ...]]):
    """Every moment of speech under one speaker, by start; S1 is the first to speak."""

    needs = ("embedding", "vad")
    version = 3
    parameters_type = ClusteringParameters
    artifact_type = tuple[SpeakerSegment, ...]

    def run(self, inputs: Inputs) -> tuple[SpeakerSegment, ...]:
        embeddings: Embeddings = inputs.artifacts["embedding"]
        speech: tuple[Span, ...] = inputs.artifacts["vad"]
        if not speech:
            return ()
        if not len(embeddings.spans):
            inputs.notes.append("clustering: no embeddings: all speech is given to one speaker")
            return tuple(SpeakerSegment(start, end, "S1") for start, end in speech)
        # By time, whatever order they came in: the result must not depend on it.
        order = np.lexsort((embeddings.spans[:, 1], embeddings.spans[:, 0]))
        spans, vectors = embeddings.spans[order], normalised(embeddings.vectors[order])
        reliable = spans[:, 1] - spans[:, 0] >= self.parameters.reliable_ms
        if not reliable.any():
            reliable[:] = True
        # Twice to be grouped; for the timeline hardly, since it blurs the changes of speaker.
        blend = self.parameters.blend
        steady = blended(spans, blended(spans, vectors, blend), blend)
        speakers = self._speakers(spans[reliable], vectors[reliable], steady[reliable])
        if len(speakers) < self.parameters.counts().lower:
            inputs.notes.append(
                f"clustering: {len(speakers)} speakers where {self.parameters.counts().lower} were "
                f"asked for: there are only {len(vectors)} windows of speech"
            )
        scores = blended(spans, vectors, blend / 4) @ speakers.T
        return timeline(speech, spans, scores, self.parameters.step_ms, self.parameters.shortest_ms)

    def _speakers(self, spans: NDArray[np.int32], vectors: Vectors, steady: Vectors) -> Vectors:
        """The centroid of each speaker, float32 [K, D]; windows by start, N > 0. `steady`, the
        vectors blended with their neighbours, are what is grouped."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        options, counts = self.parameters, self.parameters.counts()
        step = int(np.median(np.diff(spans[:, 0]))) if len(spans) > 1 else 1
        smallest = -(-options.smallest_ms // max(1, step))
        # One thread: the result must not depend on the number of cores.
        with threadpool_limits(limits=1):
            labels = self._method(steady, smallest)
            labels = absorb_small(vectors, labels, smallest, counts.lower)
            closeness = Closeness(options.merge_threshold, options.merge_doubt)
            labels = merge_close(vectors, labels, closeness, counts)
            labels = split_largest(vectors, labels, counts.lower, options.seed)
        return centroids(vectors, labels)

    def _method(self, vectors: Vectors, smallest: int) -> Labels:
        options = self.parameters
        if options.method == "umap-hdbscan":
            return umap_hdbscan(
                vectors,
                UmapOptions(
                    options.umap_neighbours, options.umap_components, smallest, options.seed
                ),
            )
        return spectral(
            vectors,
            options.counts(),
            SpectralOptions(
                options.pruning, options.neighbours, options.condense_above, options.seed
            ),
        )
