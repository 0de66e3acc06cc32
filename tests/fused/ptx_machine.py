"""Executes PTX, the code that triton makes for a GPU, on the CPU: kernels without branches, all
threads of a program at a time in numpy. Slow, and only for tests."""

from __future__ import annotations

import re

import numpy as np

KINDS = {
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
}
RAW = {"16": np.uint16, "32": np.uint32, "64": np.uint64}
COMPARE = {
    "eq": np.equal,
    "ne": np.not_equal,
    "neu": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
LINE = re.compile(r"(?:@(!?)(%p\d+) )?([a-z][a-z0-9_.:]+)\s*(.*);$")


def dtype(kind):
    """The numpy type of ``f32``, ``b64``, ``s32``, ..."""
    return KINDS.get(kind) or RAW[kind[1:]]


def bf16(x):
    """Float32 to the bits of bfloat16, to nearest, ties to even."""
    u = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


class Machine:
    """The memory of a device, and a program that runs in it.

    ``arena`` holds all tensors; an address is a place in it.
    """

    def __init__(self, code: str) -> None:
        self.lines = []
        body = code[code.index("\n{") :]
        for text in body.splitlines():
            found = LINE.match(text.split("//")[0].strip())
            if found and not found[3].startswith("."):
                self.lines.append(found.groups())
        self.threads = int(re.search(r"\.reqntid (\d+)", code)[1])
        self.arena = np.zeros(256, np.uint8)
        self.shared = np.zeros(1 << 16, np.uint8)

    def place(self, array, off: int = 0) -> int:
        """Copy an array into memory, ``off`` bytes after an aligned address; its address."""
        at, held = len(self.arena) + off, np.frombuffer(array.tobytes(), np.uint8)
        room = np.zeros(-(-(off + len(held)) // 256) * 256 + 256, np.uint8)
        room[off : off + len(held)] = held
        self.arena = np.concatenate([self.arena, room])
        return at

    def read(self, at: int, like):
        """The array of the shape and type of ``like`` at an address."""
        return np.frombuffer(self.arena[at : at + like.nbytes].tobytes(), like.dtype).reshape(
            like.shape
        )

    def run(self, programs: int, arguments: list) -> None:
        """Run the programs one after the other."""
        self.arguments = arguments
        with np.errstate(all="ignore"):
            for self.program in range(programs):
                self.registers = {}
                for negated, predicate, name, rest in self.lines:
                    active = np.ones(self.threads, bool)
                    if predicate:
                        active = self.registers[predicate] ^ bool(negated)
                    self.execute(name.replace("::", ".").split("."), operands(rest), active)

    def value(self, text, kind):
        """An operand as numbers of a kind, one a thread."""
        want = np.dtype(dtype(kind))
        if text == "%tid.x":
            raw = np.arange(self.threads, dtype=np.uint32)
        elif text == "%ctaid.x":
            raw = np.full(self.threads, self.program, np.uint32)
        elif text == "global_smem":
            raw = np.zeros(self.threads, want)
        elif text.startswith("%"):
            raw = self.registers[text]
        elif text[:2] in ("0f", "0F", "0d", "0D"):
            bits = np.uint32 if text[1] in "fF" else np.uint64
            raw = np.full(self.threads, int(text[2:], 16), bits)
        else:
            raw = np.full(
                self.threads, int(text, 0) % (1 << 8 * want.itemsize), RAW[str(8 * want.itemsize)]
            )
        if raw.dtype.itemsize != want.itemsize:
            raw = raw.astype(RAW[str(8 * want.itemsize)])
        return raw.view(want)

    def put(self, text, value, active):
        """Write a register, in the threads that are active."""
        raw = value if value.dtype == bool else value.view(RAW[str(8 * value.dtype.itemsize)])
        before = self.registers.get(text)
        self.registers[text] = (
            raw if before is None or active.all() else np.where(active, raw, before)
        )

    def execute(self, name, given, active):
        handler = getattr(self, "do_" + name[0], None) or self.arithmetic
        handler(name, given, active)

    def do_ret(self, name, given, active):
        """The end."""

    do_bar = do_ret

    def do_mov(self, name, given, active):
        target, source = given
        if name[-1] == "pred":
            found = self.registers.get(source)
            self.put(
                target,
                np.full(self.threads, source in ("-1", "1")) if found is None else found,
                active,
            )
        elif isinstance(target, list):  # the parts of a register
            raw = self.value(source, name[-1]).reshape(-1, 1).copy()
            parts = raw.view(RAW[str(8 * raw.dtype.itemsize // len(target))])
            for k, text in enumerate(target):
                self.put(text, parts[:, k].copy(), active)
        elif isinstance(source, list):
            size = str(int(name[-1][1:]) // len(source))
            parts = np.stack([self.value(text, "b" + size) for text in source], axis=1)
            self.put(target, np.ascontiguousarray(parts).view(dtype(name[-1]))[:, 0].copy(), active)
        else:
            self.put(target, self.value(source, name[-1]), active)

    def do_ld(self, name, given, active):
        target, place = given
        kind = dtype(name[-1])
        if name[1] == "param":
            number = int(re.search(r"param_(\d+)", place)[1])
            self.put(
                target,
                np.full(self.threads, self.arguments[number]).astype(self.arguments[number].dtype),
                active,
            )
            return
        targets = target if isinstance(target, list) else [target]
        memory, at = self.memory(name, place, len(targets), kind, active)
        for k, text in enumerate(targets):
            found = memory[np.where(active, at + k, 0)]
            self.put(text, found.view(RAW[str(8 * found.dtype.itemsize)]).copy(), active)

    def do_st(self, name, given, active):
        place, source = given
        kind = dtype(name[-1])
        sources = source if isinstance(source, list) else [source]
        memory, at = self.memory(name, place, len(sources), kind, active)
        for k, text in enumerate(sources):
            memory[at[active] + k] = self.value(text, name[-1])[active]

    def memory(self, name, place, count, kind, active):
        """The memory as numbers of a kind, and where each thread reads or writes; it must be
        aligned for all of them at once, and inside."""
        base, offset = re.fullmatch(r"\[\s*([%\w]+)\s*(?:\+\s*(-?\d+))?\s*\]", place).groups()
        held = self.shared if name[1] == "shared" else self.arena
        wide = "b32" if name[1] == "shared" else "b64"
        at = self.value(base, wide).astype(np.int64) + int(offset or 0)
        size = np.dtype(kind).itemsize
        assert not (at[active] % (size * count)).any(), "a misaligned access"
        low = 0 if name[1] == "shared" else 256
        assert ((at[active] >= low) & (at[active] + size * count <= len(held))).all(), "outside"
        return held.view(kind), at // size

    def do_setp(self, name, given, active):
        a, b = (self.value(text, name[-1]) for text in given[1:])
        found = COMPARE[name[1]](a, b)
        if name[1] == "ne" and name[-1].startswith("f"):
            found &= ~(np.isnan(a) | np.isnan(b))
        self.put(given[0], found, active)

    def do_selp(self, name, given, active):
        a, b = (self.value(text, name[-1]) for text in given[1:3])
        self.put(given[0], np.where(self.registers[given[3]], a, b), active)

    def do_cvt(self, name, given, active):
        to, source = name[-2], name[-1]
        if to in ("bf16x2", "f16x2"):
            high, low = (self.value(text, "f32") for text in given[1:])
            parts = [
                bf16(x) if to == "bf16x2" else x.astype(np.float16).view(np.uint16)
                for x in (low, high)
            ]
            self.put(given[0], np.stack(parts, axis=1).view(np.uint32)[:, 0].copy(), active)
        elif to == "bf16":
            self.put(given[0], bf16(self.value(given[1], "f32")), active)
        elif source == "bf16":
            wide = self.value(given[1], "b16").astype(np.uint32) << np.uint32(16)
            self.put(given[0], wide.view(np.float32), active)
        else:
            self.put(given[0], self.value(given[1], source).astype(dtype(to)), active)

    def do_shfl(self, name, given, active):
        target = given[0].split("|")[0]
        lane = np.arange(self.threads) & ~31 | self.value(given[2], "b32") & np.uint32(31)
        self.put(target, self.value(given[1], "b32")[lane.astype(np.int64)], active)

    def arithmetic(self, name, given, active):
        kind = name[-1]
        if kind == "pred":
            a, b = (self.registers[text] for text in given[1:])
            self.put(given[0], {"and": a & b, "or": a | b, "xor": a ^ b}[name[0]], active)
            return
        values = [self.value(text, kind) for text in given[1:]]
        self.put(given[0], self.result(name, kind, values, given), active)

    def result(self, name, kind, values, given):
        """What an instruction with one result computes."""
        a, op, wide = values[0], name[0], "wide" in name
        if op in ("mul", "mad") and not kind.startswith("f"):
            bits = 8 * a.dtype.itemsize
            if bits == 64:
                made = a * values[1]
                return made + values[2] if op == "mad" else made
            made = a.astype(np.int64 if kind[0] == "s" else np.uint64)
            made = made * values[1].astype(made.dtype)
            if "hi" in name:
                return (made >> made.dtype.type(bits)).astype(a.dtype)
            if not wide:
                made = made.astype(a.dtype)
            if op == "mad":
                made = made + (self.value(given[3], kind[0] + "64") if wide else values[2])
            return made
        if op == "fma":
            if kind == "f64":
                return np.array(
                    [float(np.longdouble(x) * y + z) for x, y, z in zip(*values, strict=True)]
                )
            return (values[0].astype(np.float64) * values[1] + values[2]).astype(np.float32)
        if op in ("shl", "shr"):
            by = self.value(given[2], "b32").astype(a.dtype)
            return a << by if op == "shl" else a >> by
        if op == "bfe":
            begin, size = (self.value(text, "b32") for text in given[2:])
            return (a >> begin) & ((np.uint32(1) << size) - np.uint32(1))
        if op in ("div", "rem"):
            quotient = np.trunc(a.astype(np.longdouble) / values[1]).astype(a.dtype)
            return quotient if op == "div" else a - quotient * values[1]
        made = {
            "add": np.add,
            "sub": np.subtract,
            "mul": np.multiply,
            "and": np.bitwise_and,
            "or": np.bitwise_or,
            "xor": np.bitwise_xor,
            "sqrt": np.sqrt,
            "neg": np.negative,
            "not": np.invert,
        }[op]
        return made(*values)


def operands(text):
    """``%r1, {%r2, %r3}, [%rd1 + 0]`` as a list; braces become a list of their own."""
    found = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", text)
    return [
        [part.strip() for part in item[1:-1].split(",")] if item.startswith("{") else item.strip()
        for item in found
    ]
