"""Synthetic speech from espeak-ng, in a separate process.

The synthesiser has a state that no call resets, so the same words never sound exactly the same
twice. A new process that speaks the same list gives the same samples, and a crash of the library
ends only that process. espeak-ng is GPL-3.0 or later; it comes with the package espeakng_loader.
"""

import ctypes
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

LIBRARIES = {"win32": "espeak-ng.dll", "darwin": "libespeak-ng.dylib"}


class Utterance(NamedTuple):
    """A text, and how to speak it."""

    text: str
    voice: str  # an identifier of espeak-ng: "gmw/en-US", with a variant "gmw/en-US+f3"
    speed: int  # words per minute, 80 to 450
    pitch: int  # 0 to 99; 50 is the voice's own


def speak(utterances: Sequence[Utterance]) -> tuple[int, "list[np.ndarray]"]:
    """Return the sample rate in Hz and, for each utterance, its samples, int16.

    The same list gives the same samples; a longer one begins with them.

    Raises:
        ModuleNotFoundError: the synthesiser is not installed; the message names the extra.
        ChildProcessError: it cannot be started, or a voice is unknown.
    """
    import subprocess

    import numpy as np

    from rnnjax.datasets.builders import package_file

    name = LIBRARIES.get(sys.platform, "libespeak-ng.so")
    library = package_file("espeakng_loader", name, extra="speech")
    data = package_file("espeakng_loader", "espeak-ng-data", extra="speech")
    done = subprocess.run(
        [sys.executable, "-I", "-S", __file__, str(library), str(data)],
        input=json.dumps(utterances).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        last = why[-1] if why else f"exit {done.returncode}"
        raise ChildProcessError(f"espeak-ng failed: {last}")
    head, _, sound = done.stdout.partition(b"\n")
    rate, *ends = json.loads(head)
    samples = np.frombuffer(sound, "<i2").astype(np.int16)
    return rate, np.split(samples, ends)[:-1]


def _serve(library, data):
    """Speak the utterances of standard input; write the rate, the ends and the samples."""
    sound, ends = bytearray(), []
    espeak = ctypes.CDLL(library)
    receiver = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
    )

    @receiver
    def receive(samples, count, _):
        if samples and count > 0:
            sound.extend(ctypes.string_at(samples, 2 * count))
        return 0  # continue

    synchronous, no_exit, speed, pitch, utf8 = 2, 0x8000, 1, 3, 1  # from speak_lib.h
    size, unsigned, pointer = ctypes.c_size_t, ctypes.c_uint, ctypes.c_void_p
    espeak.espeak_Synth.argtypes = [
        *(ctypes.c_char_p, size, unsigned, ctypes.c_int, unsigned, unsigned, pointer, pointer)
    ]
    rate = espeak.espeak_Initialize(synchronous, 0, data.encode(), no_exit)
    if rate <= 0:
        raise SystemExit(f"its data cannot be read from {data}")
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # otherwise it is the time
    espeak.espeak_SetSynthCallback(receive)
    for text, voice, words_a_minute, height in json.load(sys.stdin.buffer):
        if espeak.espeak_SetVoiceByName(voice.encode()):
            raise SystemExit(f"no voice {voice!r}")
        espeak.espeak_SetParameter(speed, words_a_minute, 0)
        espeak.espeak_SetParameter(pitch, height, 0)
        said = text.encode() + b"\0"
        if espeak.espeak_Synth(said, len(said), 0, 1, 0, utf8, None, None):
            raise SystemExit(f"it does not say {text!r}")
        espeak.espeak_Synchronize()
        ends.append(len(sound) // 2)
    if sys.byteorder == "big":
        sound[::2], sound[1::2] = sound[1::2], sound[::2]
    sys.stdout.buffer.write(json.dumps([rate, *ends]).encode() + b"\n" + sound)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
