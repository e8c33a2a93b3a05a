"""Replaces the images of a request by checked bytes: headers of all first, then, within the limits, every pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from api.forget_requests.check_meter import Loc
from api.forget_requests.images import (
    DecodeImage,
    ImageLimits,
    ImageRefused,
    check_decodes,
    count_pixels,
    decode_base64,
)
from api.problems import FieldError, InvalidRequest
from api.schemas import ImageSource, JobRequest, SubmittedPair
from jobs.storage.inputs import JobInputs
from vgid_core.data.pairs import EncodedImage, Pair, PairSet


def pair_sets(request: JobRequest) -> Iterator[tuple[Loc, tuple[SubmittedPair, ...]]]:
    """Each set of pairs with its place in the request."""
    yield ("forget",), request.forget
    if request.retain is not None:
        yield ("retain",), request.retain
    for name, pairs in request.probes.items():
        yield ("probes", name), pairs


class ImageResolver:
    """The distinct images of one request, each with the places that show it."""

    def __init__(self, request: JobRequest, files: Mapping[str, bytes] | None, limits: ImageLimits) -> None:
        """files: by name, of a multipart request."""
        self._request = request
        self._files = files
        self._limits = limits
        self._unused = set(files or ())
        self._refused: dict[Loc, str] = {}
        self._data: dict[Loc, bytes] = {}
        self._places: dict[bytes, list[Loc]] = {}
        self._pixels: dict[bytes, int] = {}  # by image, once its header is checked
        for loc, pairs in pair_sets(request):
            for index, pair in enumerate(pairs):
                self._find(pair.image, (*loc, index, "image"))

    def check(self, decoding: Callable[[Loc, int], None], decode: DecodeImage) -> None:
        """Checks each image once. Raises InvalidRequest if any is refused or a file isn't used.

        decoding: called with an image's place and pixels before `decode` is, which may be the last thing that this
        process does.
        """
        self._check_headers()
        self._raise_if_refused()
        for data, places in self._places.items():
            decoding(places[0], self._pixels[data])
            self._check(data, partial(check_decodes, data, decode, self._limits))
        self._raise_if_refused()

    def resolve(self) -> JobInputs:
        """The request's sets with their images. Raises InvalidRequest if an image or a file is missing."""
        self._raise_if_refused()
        images = {data: EncodedImage(data) for data in self._places}

        def set_at(loc: Loc, pairs: tuple[SubmittedPair, ...]) -> PairSet:
            shown = (images[self._data[*loc, index, "image"]] for index in range(len(pairs)))
            return PairSet.of(
                str(loc[-1]),
                [
                    Pair(image, pair.question, pair.answer, pair.person, pair.fact)
                    for image, pair in zip(shown, pairs, strict=True)
                ],
            )

        sets = {loc: set_at(loc, pairs) for loc, pairs in pair_sets(self._request)}
        return JobInputs(
            forget=sets["forget",],
            retain=sets.get(("retain",)),
            probes={name: sets["probes", name] for name in self._request.probes},
        )

    def _find(self, source: ImageSource, place: Loc) -> None:
        try:
            if source.file is not None:
                data = self._file_bytes(source.file)
            else:
                data = decode_base64(source.base64 or "", self._limits)
        except ImageRefused as refusal:
            self._refused[place] = str(refusal)
        else:
            self._data[place] = data
            self._places.setdefault(data, []).append(place)

    def _file_bytes(self, name: str) -> bytes:
        if self._files is None:
            raise ImageRefused("names a file, which only a multipart/form-data request can carry")
        if name not in self._files:
            raise ImageRefused("names a file that the request doesn't carry")
        self._unused.discard(name)
        return self._files[name]

    def _check_headers(self) -> None:
        """Reads every header. Raises InvalidRequest where the images together have too many pixels."""

        def count(data: bytes) -> None:
            self._pixels[data] = count_pixels(data, self._limits)

        for data in self._places:
            self._check(data, partial(count, data))
        if sum(self._pixels.values()) > self._limits.max_request_pixels:
            most = self._limits.max_request_pixels
            raise InvalidRequest.of([FieldError(f"has images of more than {most} pixels together")])

    def _check(self, data: bytes, check: Callable[[], None]) -> None:
        try:
            check()
        except ImageRefused as refusal:
            self._refused |= dict.fromkeys(self._places[data], str(refusal))

    def _raise_if_refused(self) -> None:
        places = ((*loc, i, "image") for loc, pairs in pair_sets(self._request) for i in range(len(pairs)))
        errors = [FieldError(self._refused[place], place) for place in places if place in self._refused]
        errors += [
            # The error gives the file's position: its name may be a person's.
            FieldError("is a file that no pair names", name=f"file[{position}]")
            for position, name in enumerate(self._files or ())
            if name in self._unused
        ]
        if errors:
            raise InvalidRequest.of(errors)
