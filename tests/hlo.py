"""A compiled program, read from its text (HLO): its loops, matmuls, kernels and carries."""

import dataclasses
import re

FREE = {
    "after-all",
    "bitcast",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
}
CONTROL = {"call", "conditional", "while"}  # run what they call, and are nothing themselves
COLLECTIVE = re.compile(
    r"(all-gather|all-reduce|all-to-all|collective-broadcast|collective-permute|reduce-scatter)\b"
)
MATMUL = re.compile(r'custom_call_target="[^"]*(cublas|gemm|matmul|cudnn\$conv)')
CALLED = re.compile(
    r"\b(?:body|branch_computations|called_computations|calls|condition|false_computation|to_apply"
    r"|true_computation)=(?:\{([^}]*)\}|%?([\w.\-]+))"
)
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+)[ (].*\{$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a compiled program.

    `shapes` are those of its results (a tuple has several); `called` the names of the computations
    it calls: a fusion's, a loop's body and condition.
    """

    name: str
    opcode: str
    shapes: tuple[tuple[int, ...], ...]
    operands: tuple[str, ...]
    called: tuple[str, ...]
    text: str

    @classmethod
    def parse(cls, line):
        """Read a line of a computation: `[ROOT] %name = type opcode(operands), attributes`."""
        name = INSTRUCTION.match(line)
        assert name, line
        rest = line[name.end() :]
        result, rest = _closed(rest) if rest.startswith("(") else rest.split(" ", 1)
        opcode, rest = rest.strip().split("(", 1)
        operands, attributes = _closed("(" + rest)
        attributes = re.sub(r"metadata=\{.*?\}", "", attributes)
        called = [several or one for several, one in CALLED.findall(attributes)]
        return cls(
            name[1],
            opcode,
            tuple(
                tuple(int(n) for n in dims.split(",") if n)
                for dims in re.findall(r"\w\[([\d,]*)\]", result)
            ),
            tuple(re.findall(r"%?([\w.\-]+)(?=[,)])", re.sub(r"/\*.*?\*/", "", operands))),
            tuple(n.strip(" %") for names in called for n in names.split(",")),
            line,
        )

    @property
    def matmul(self):
        """Whether it multiplies matrices: on TPUs every matmul is called a convolution."""
        return self.opcode in ("dot", "convolution") or (
            self.opcode == "custom-call" and bool(MATMUL.search(self.text))
        )

    @property
    def collective(self):
        """Whether devices exchange data."""
        return bool(COLLECTIVE.match(self.opcode))


class Program:
    """A compiled program, read from its text: computations, by name, in the order they run in."""

    def __init__(self, text):
        self.computations, self.entry = {}, ""
        here = None
        for line in text.splitlines():
            if here is None:
                header = COMPUTATION.match(line)
                if header and not line.startswith("HloModule"):
                    here = self.computations.setdefault(header[2], [])
                    self.entry = header[2] if header[1] else self.entry
            elif line.startswith("}"):
                here = None
            elif INSTRUCTION.match(line):
                here.append(Instruction.parse(line))
        assert self.entry in self.computations, "no entry computation"

    def reached(self, name, loops=True):
        """Return the instructions of a computation and of what it calls, loops too if asked."""
        for instruction in self.computations[name]:
            yield instruction
            if loops or instruction.opcode != "while":
                for called in instruction.called:
                    yield from self.reached(called, loops)

    def loops(self):
        """Return the names of the bodies of all loops, in the order they start."""
        whiles = (i for i in self.reached(self.entry) if i.opcode == "while")
        return [self._body(i) for i in whiles]

    def trip_counts(self):
        """Return how often each loop runs, in the order they start: a tuple `(..., outer, inner)`.

        None stands for a loop that the data end.
        """
        return list(self._nests(self.entry, ()))

    def outside_loops(self):
        """Return the instructions that run once."""
        return self.reached(self.entry, loops=False)

    def matmuls(self, body):
        """Return the matmuls of a loop's body, wherever they are fused."""
        return [i for i in self.reached(body) if i.matmul]

    def recurrent_loops(self):
        """Return the bodies of the loops that multiply matrices: forward, then backward."""
        return [body for body in self.loops() if self.matmuls(body)]

    def carried(self, body):
        """Return the shapes in a loop's carry that an iteration replaces.

        What it hands on untouched, like the weights, is not among them.
        """
        instructions = {i.name: i for i in self.computations[body]}
        (argument,) = (i.name for i in instructions.values() if i.opcode == "parameter")
        root = next(i for i in instructions.values() if i.text.lstrip().startswith("ROOT"))
        assert root.opcode == "tuple", root.text

        def handed_on(index, i):
            same = re.search(r"index=(\d+)", i.text)
            return (
                i.opcode == "get-tuple-element"
                and i.operands == (argument,)
                and same is not None
                and int(same[1]) == index
            )

        results = [instructions[name] for name in root.operands]
        return [
            shape
            for index, result in enumerate(results)
            if not handed_on(index, result)
            for shape in result.shapes
        ]

    def kernels(self, body):
        """Return the instructions of a loop's body that a GPU launches a kernel for.

        That is every one but names for memory that is already there: each fusion, copy, library
        call and whatever else stands alone. A matmul split along its contracted axis counts twice,
        as a second kernel adds up the parts. The step counter counts as well: the host knows how
        many steps there are, but their place in the arrays over time is read from the device,
        where a kernel of its own increments it.
        """
        found = []
        for i in self.computations[body]:
            if i.opcode in CONTROL:
                called = (self._body(i),) if i.opcode == "while" else i.called
                found += [kernel for name in called for kernel in self.kernels(name)]
            elif i.opcode not in FREE and not i.opcode.endswith("-done"):
                found.append(i)
        return found

    def _nests(self, name, around):
        for instruction in self.computations[name]:
            inside = around
            if instruction.opcode == "while":
                inside = (*around, self._trip_count(instruction))
                yield inside
            for called in instruction.called:
                yield from self._nests(called, inside)

    def _trip_count(self, loop):
        """Return what the compiler noted, or n of a loop that goes on while a counter is below n.

        The counter starts at 0 and goes up by 1, as that of `lax.scan`.
        """
        noted = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.text)
        if noted:
            return int(noted[1])
        instructions = {i.name: i for i in self.computations[self._part(loop, "condition")]}
        root = next(i for i in instructions.values() if i.text.lstrip().startswith("ROOT"))
        if root.opcode != "compare" or "direction=LT" not in root.text:
            return None
        counter, limit = (instructions[name] for name in root.operands)
        counts = counter.opcode == "get-tuple-element" and limit.opcode == "constant"
        return int(limit.operands[0]) if counts else None

    def _body(self, loop):
        return self._part(loop, "body")

    @staticmethod
    def _part(loop, role):
        name = re.search(rf"\b{role}=%?([\w.\-]+)", loop.text)
        assert name, loop.text
        return name[1]


def _closed(text):
    """Split a text that starts with a bracket after the one that closes it."""
    depth = 0
    for position, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return text[: position + 1], text[position + 1 :]
    raise ValueError(f"no closing bracket: {text}")
