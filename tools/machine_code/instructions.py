"""What the text of a kernel's machine code says: instructions, where they lead, and its loops."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# The pipe of an SM that runs an operation, by the start of its name; the first that fits. "other" takes
# a scheduler's slot alone: branches, barriers, constants, the uniform datapath.
PIPES = {
    "fp64": ("DADD", "DMUL", "DFMA", "DSETP", "DMNMX"),
    "special": ("MUFU", "I2F", "F2I", "F2F", "FRND", "POPC", "FLO", "BREV"),
    "multiply": ("IMAD", "IMUL", "XMAD"),
    "fp32": ("FADD", "FMUL", "FFMA", "HADD2", "HMUL2", "HFMA2", "FSWZADD"),
    "memory": ("LD", "ST", "ATOM", "RED", "SHFL"),
    "integer": (
        *("IADD", "VIADD", "ISETP", "IMNMX", "VIMNMX", "IABS", "LEA", "LOP3", "LOP", "SHF", "SEL"),
        *("FSETP", "FSEL", "FMNMX", "PRMT", "MOV", "CS2R", "PLOP3", "I2I", "VOTE", "P2R", "R2P"),
    ),
}
UNIFORM = ("LDC", "ULDC", "S2R")  # start like others, but are no traffic of the pipe's


@dataclass(frozen=True)
class Instruction:
    """One instruction: predicate, operation with its modifiers, operands."""

    text: str

    @property
    def operation(self) -> str:
        return self.text.removeprefix(self.predicate).split()[0]

    @property
    def predicate(self) -> str:
        return match[0] if (match := re.match(r"@\S+\s+", self.text)) else ""

    @property
    def pipe(self) -> str:
        """Of PIPES, or "other". Packing two floats into 16-bit ones is counted as a conversion."""
        name = self.operation
        if name.startswith(UNIFORM):
            return "other"
        if name.startswith("F2FP"):
            return "special"
        return next((p for p, starts in PIPES.items() if name.startswith(starts)), "other")

    @property
    def width(self) -> int:
        """Registers that each of its 32-bit operands or results spans."""
        found = re.search(r"\.(64|128|256)\b", self.operation)
        if found:
            return int(found[1]) // 32
        return 2 if re.match(r"D[A-Z]|\w+\.WIDE|F2F\.F64|CS2R$", self.operation) else 1

    def moves(self, operation: str) -> int:
        """Bytes that a thread moves, if it is a load (LDG) or a store (STG); else 0."""
        if not re.match(rf"{operation}\b", self.operation):
            return 0
        short = re.search(r"\.[US](8|16)\b", self.operation)
        return int(short[1]) // 8 if short else 4 * self.width

    @property
    def registers(self) -> tuple[list[str], list[str]]:
        """What it writes and what it reads, predicates and uniform registers included."""
        operands = self.text.removeprefix(self.predicate).partition(" ")[2].split(",")
        stores = re.match(r"ST|RED|BRA|BRX|BAR|EXIT|CALL|RET|BSYNC|BSSY", self.operation)
        found = [re.findall(r"\b(U?[RP]\d+)((?:\.64)?)", operand) for operand in operands]
        # A result comes first, and predicates that it sets beside it follow at once.
        count = 0 if stores else 1
        while count and count < len(found) and re.fullmatch(r"\s*U?P(T|\d)", operands[count]):
            count += 1
        written = [r for result in found[:count] for r, _ in result]
        if written and "P" not in written[0]:
            written += _following(written[0], self.width)
        read = re.findall(r"U?P\d+", self.predicate)
        for operand in found[count:]:
            for register, wide in operand:
                span = 2 if wide else self.width if stores or self.pipe == "fp64" else 1
                read += [register, *_following(register, span)]
        return written, read


def _following(register: str, span: int) -> list[str]:
    kind, number = re.fullmatch(r"(U?[RP])(\d+)", register).groups()  # type: ignore[union-attr]
    return [f"{kind}{int(number) + k}" for k in range(1, span)]


def control_flow(body: str) -> tuple[list[Instruction], list[list[int]]]:
    """The instructions, and for each of them the places of those that may come next.

    A call may be one, of a slow path of sqrt, or how ptxas writes a far jump: it leads to its target and on.
    The table of an indirect branch (BRX, of a switch) is not in the text: it is taken to lead wherever nothing
    else does.
    """
    code = re.findall(r"^\s*/\*([0-9a-f]+)\*/\s+(@\S+\s+)?([^;]+?)\s*;", body, flags=re.MULTILINE)
    place = {int(address, 16): i for i, (address, _, _) in enumerate(code)}
    following: list[list[int]] = []
    switches = []
    for i, (_, predicate, instruction) in enumerate(code):
        operation, *operands = re.split(r"[\s,]+", instruction)
        name = operation.split(".")[0]
        leaves = name in ("BRA", "EXIT", "RET", "BRX", "JMP")
        jumps = name == "BRA" or operation.startswith("CALL.REL")
        after = [place[int(operands[-1], 16)]] if jumps else []
        if name == "BRX":
            switches.append(i)
        # A branch has its condition in front, or as an operand before the target.
        conditional = predicate or (name == "BRA" and len(operands) > 1)
        if (not leaves or conditional) and i + 1 < len(code):
            after.append(i + 1)
        following.append(after)
    reached = {place for after in following for place in after}
    for switch in switches:
        following[switch] += [i for i in range(switch + 1, len(code)) if i not in reached]
    return [Instruction(p + text) for _, p, text in code], following


def shortest_way(
    following: Sequence[Sequence[int]], starts: Sequence[int], goals: Collection[int]
) -> list[int] | None:
    """The places after one of the starts up to the first goal; None if no goal can be reached."""
    before: dict[int, int] = {}
    queue = deque(starts)
    while queue:
        i = queue.popleft()
        for after in following[i]:
            if after in before:
                continue
            before[after] = i
            if after in goals:
                way = [after]
                while before[way[-1]] not in starts:
                    way.append(before[way[-1]])
                return way[::-1]
            queue.append(after)
    return None


@dataclass(frozen=True)
class Loop:
    """A kernel's main loop: once round it, and the ways there and from there to the end."""

    path: tuple[Instruction, ...]
    before: tuple[Instruction, ...]
    after: tuple[Instruction, ...]
    elements: int  # of a thread, once round

    def count(self, pipe: str) -> int:
        """Its instructions on a pipe."""
        return sum(instruction.pipe == pipe for instruction in self.path)


def moved(path: Sequence[Instruction], operation: str) -> int:
    """Bytes that a thread loads (LDG) or stores (STG) on its way, in the widest pieces there are."""
    moves = [instruction.moves(operation) for instruction in path]
    return sum(size for size in moves if size == max(moves))


def _singles(path: Sequence[Instruction]) -> int:
    return sum(0 < one.moves("LDG") + one.moves("LD") < 16 for one in path)


def main_loop(body: str, read: int, written: int, fp32: int = 0, singles: int = 0) -> Loop:
    """The way of a long, aligned tensor, of `read` and `written` bytes an element, through a kernel.

    For each wide load and store, the shortest way from it round to itself is one candidate: branches go
    where they lead back soonest, that is past what is done for tails only. It must load and store in the
    right proportion, and so leave out neither, and have `fp32` instructions of that pipe an element, which
    tells the logistic form of a loss from the others, and load `singles` numbers beside its vectors, which tells
    one sigma for each sample from one for all. Of what is left, the ones with the fewest bytes
    (a second tensor that logits may be paired with is not there), and of these the shortest (no label
    smoothing).

    Raises:
        ValueError: there is none.
    """
    code, following = control_flow(body)
    wide = [i for i, one in enumerate(code) if max(one.moves("LDG"), one.moves("STG")) >= 16]
    ends = {i for i, one in enumerate(code) if one.operation == "EXIT"}
    found = []
    for cycle in filter(None, (shortest_way(following, [i], {i}) for i in wide)):
        path = tuple(code[i] for i in cycle)
        loaded, stored = moved(path, "LDG"), moved(path, "STG")
        elements = stored // written if written else loaded // read
        if loaded == read * elements:
            there = shortest_way([*following, [0]], [len(code)], set(cycle)) or []
            on = shortest_way(following, cycle, ends) or []
            before, after = (tuple(code[i] for i in way) for way in (there[:-1], on))
            found.append(Loop(path, before, after, elements))
    found = [loop for loop in found if loop.count("fp32") >= fp32 * loop.elements]
    found = [loop for loop in found if _singles(loop.path) >= singles]
    if not found:
        raise ValueError(f"no loop that loads {read} and stores {written} bytes an element")
    return min(found, key=lambda loop: (loop.elements, len(loop.path)))
