"""Parses the text of a kernel's machine code: instructions, control flow and loops."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# The pipe of an SM that runs an operation, by the prefix of its name; the first match counts. "other" needs only an
# issue slot: branches, barriers, constants, the uniform datapath.
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
UNIFORM = ("LDC", "ULDC", "S2R")  # match a prefix, but do not use that pipe


@dataclass(frozen=True)
class Instruction:
    """An instruction: predicate, operation with its modifiers, operands."""

    text: str

    @property
    def operation(self) -> str:
        return self.text.removeprefix(self.predicate).split()[0]

    @property
    def predicate(self) -> str:
        return match[0] if (match := re.match(r"@\S+\s+", self.text)) else ""

    @property
    def pipe(self) -> str:
        """The pipe in PIPES, or "other". Packing two floats into 16-bit ones counts as a conversion."""
        name = self.operation
        if name.startswith(UNIFORM):
            return "other"
        if name.startswith("F2FP"):
            return "special"
        return next((p for p, starts in PIPES.items() if name.startswith(starts)), "other")

    @property
    def width(self) -> int:
        """Number of registers that each of its 32-bit operands or results spans."""
        found = re.search(r"\.(64|128|256)\b", self.operation)
        if found:
            return int(found[1]) // 32
        return 2 if re.match(r"D[A-Z]|\w+\.WIDE|F2F\.F64|CS2R$", self.operation) else 1

    def moves(self, operation: str) -> int:
        """Bytes per thread that the instruction moves if it is a load (LDG) or a store (STG), otherwise 0."""
        if not re.match(rf"{operation}\b", self.operation):
            return 0
        short = re.search(r"\.[US](8|16)\b", self.operation)
        return int(short[1]) // 8 if short else 4 * self.width

    @property
    def registers(self) -> tuple[list[str], list[str]]:
        """The registers that it writes and reads, including predicates and uniform registers."""
        operands = self.text.removeprefix(self.predicate).partition(" ")[2].split(",")
        stores = re.match(r"ST|RED|BRA|BRX|BAR|EXIT|CALL|RET|BSYNC|BSSY", self.operation)
        found = [re.findall(r"\b(U?[RP]\d+)((?:\.64)?)", operand) for operand in operands]
        # The result comes first, immediately followed by predicates that are also set.
        count = 0 if stores else 1
        while count and count < len(found) and re.fullmatch(r"\s*U?P(T|\d)", operands[count]):
            count += 1
        written = [r for result in found[:count] for r, _ in result]
        if written and "P" not in written[0]:
            written += _register_span(written[0], self.width)
        read = re.findall(r"U?P\d+", self.predicate)
        for operand in found[count:]:
            for register, wide in operand:
                span = 2 if wide else self.width if stores or self.pipe == "fp64" else 1
                read += [register, *_register_span(register, span)]
        return written, read


def _register_span(register: str, span: int) -> list[str]:
    kind, number = re.fullmatch(r"(U?[RP])(\d+)", register).groups()  # type: ignore[union-attr]
    return [f"{kind}{int(number) + k}" for k in range(1, span)]


def control_flow(body: str) -> tuple[list[Instruction], list[list[int]]]:
    """The instructions, and for each of them the indices of its possible successors.

    A call may be a real call (the slow path of sqrt) or a far jump by ptxas: its successors are both its target and the
    next instruction. The table of an indirect branch (BRX, from a switch) is not in the text: its successors are
    assumed to be all instructions without another predecessor.
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
        # The condition of a branch is its predicate, or an operand before the target.
        conditional = predicate or (name == "BRA" and len(operands) > 1)
        if (not leaves or conditional) and i + 1 < len(code):
            after.append(i + 1)
        following.append(after)
    reached = {place for after in following for place in after}
    for switch in switches:
        following[switch] += [i for i in range(switch + 1, len(code)) if i not in reached]
    return [Instruction(p + text) for _, p, text in code], following


def shortest_path(
    following: Sequence[Sequence[int]], starts: Sequence[int], goals: Collection[int]
) -> list[int] | None:
    """The indices after one of the starts up to the first goal; None if no goal is reachable."""
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
    """A kernel's main loop: the path of an iteration, and the paths before and after it."""

    path: tuple[Instruction, ...]
    before: tuple[Instruction, ...]
    after: tuple[Instruction, ...]
    elements: int  # per thread and iteration

    def count(self, pipe: str) -> int:
        """Number of its instructions on a pipe."""
        return sum(instruction.pipe == pipe for instruction in self.path)


def moved(path: Sequence[Instruction], operation: str) -> int:
    """Bytes that a thread loads (LDG) or stores (STG) on the path, counting only the widest accesses."""
    moves = [instruction.moves(operation) for instruction in path]
    return sum(size for size in moves if size == max(moves))


def _scalar_loads(path: Sequence[Instruction]) -> int:
    return sum(0 < one.moves("LDG") + one.moves("LD") < 16 for one in path)


def main_loop(body: str, read: int, written: int, fp32: int = 0, singles: int = 0) -> Loop:
    """The path of a long, aligned tensor, with `read` and `written` bytes per element, through a kernel.

    For each wide load and store, the shortest cycle through it is a candidate: branches skip the code that handles only
    tails. A candidate must load and store in the right proportion, so that it leaves out neither; it must have `fp32`
    instructions of that pipe per element, which distinguishes the logistic form of a loss from the others; and it must
    load `singles` numbers in addition to its vectors, which distinguishes a sigma per sample from a single one. Among
    the candidates, those with the fewest bytes are selected (without a second tensor that is paired with the logits),
    and of these the shortest (without label smoothing).

    Raises:
        ValueError: there is no such loop.
    """
    code, following = control_flow(body)
    wide = [i for i, one in enumerate(code) if max(one.moves("LDG"), one.moves("STG")) >= 16]
    ends = {i for i, one in enumerate(code) if one.operation == "EXIT"}
    found = []
    for cycle in filter(None, (shortest_path(following, [i], {i}) for i in wide)):
        path = tuple(code[i] for i in cycle)
        loaded, stored = moved(path, "LDG"), moved(path, "STG")
        elements = stored // written if written else loaded // read
        if loaded == read * elements:
            there = shortest_path([*following, [0]], [len(code)], set(cycle)) or []
            on = shortest_path(following, cycle, ends) or []
            before, after = (tuple(code[i] for i in way) for way in (there[:-1], on))
            found.append(Loop(path, before, after, elements))
    found = [loop for loop in found if loop.count("fp32") >= fp32 * loop.elements]
    found = [loop for loop in found if _scalar_loads(loop.path) >= singles]
    if not found:
        raise ValueError(f"no loop that loads {read} and stores {written} bytes an element")
    return min(found, key=lambda loop: (loop.elements, len(loop.path)))
