"""Bytes, kernels and products of a compiled program are those that its text says."""

import pytest

from moa_jax.plan import hlo, traffic

PROGRAM = """HloModule step, is_scheduled=true

%fused_read (p0: f32[10,4], p1: s32[]) -> f32[1,4] {
  %p0 = f32[10,4]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %row = f32[1,4]{1,0} dynamic-slice(%p0, %p1, %zero), dynamic_slice_sizes={1,4}
}

%fused_write (p0: f32[10,4], p1: f32[1,4], p2: s32[]) -> f32[10,4] {
  %p0 = f32[10,4]{1,0} parameter(0)
  %p1 = f32[1,4]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %new = f32[10,4]{1,0} dynamic-update-slice(%p0, %p1, %p2, %zero)
}

%body (state: (s32[], f32[10,4])) -> (s32[], f32[10,4]) {
  %state = (s32[], /*index=1*/f32[10,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %table = f32[10,4]{1,0} get-tuple-element(%state), index=1
  %one = f32[1,4]{1,0} fusion(%table, %i), kind=kLoop, calls=%fused_read
  %flat = f32[4]{0} bitcast(%one)
  %less = f32[1,4]{1,0} negate(%one), metadata={op_name="jit(f)/neg"}
  %updated = f32[10,4]{1,0} fusion(%table, %less, %i), kind=kLoop, calls=%fused_write
  ROOT %next = (s32[], f32[10,4]{1,0}) tuple(%i, %updated)
}

%condition (state: (s32[], f32[10,4])) -> pred[] {
  %state = (s32[], f32[10,4]{1,0}) parameter(0)
  ROOT %true = pred[] constant(true)
}

%small (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %same = f32[8]{0} bitcast(%p)
}

%large (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %other = f32[8]{0} negate(%p)
}

ENTRY %main (x: f32[10,4]) -> (f32[10,4], f32[8]) {
  %x = f32[10,4]{1,0} parameter(0)
  %start = s32[] constant(0)
  %carry = (s32[], f32[10,4]{1,0}) tuple(%start, %x)
  %loop = (s32[], f32[10,4]{1,0}) while(%carry), condition=%condition, body=%body, KNOWN
  %values = f32[8]{0:T(256)S(1)} slice(%x), slice={[0:2], [0:4]}
  %which = pred[] constant(true)
  %chosen = f32[8]{0} conditional(%which, %values, %values), true_computation=%large, \
false_computation=%small
  ROOT %all = (f32[10,4]{1,0}, f32[8]{0}) tuple(%x, %chosen)
}
"""
TRIPS = 'backend_config={"known_trip_count":{"n":"5"}}'
# A slice: 16 of the table and the index, 16 written. Negated: 16 and 16. Written in place: 16 of
# the row and the index, 16 written.
PASS = (16 + 4 + 16) + (16 + 16) + (16 + 4 + 16)
# A slice into memory on the chip is read; of the branches the one counts that moves more.
REST = 32 + 32 + 32


COUNTER = """  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %most = s32[]{:T(128)} constant(7)
  ROOT %less = pred[] compare(%i, %most), direction=LT"""
ALWAYS = "  ROOT %true = pred[] constant(true)"


@pytest.mark.parametrize(
    ("said", "condition", "trips"),
    [
        (f", {TRIPS}", ALWAYS, 5),
        ("", COUNTER, 7),
        ("", COUNTER.replace("LT", "NE"), traffic.UNKNOWN_TRIPS),
        ("", ALWAYS, traffic.UNKNOWN_TRIPS),
    ],
)
def test_bytes_and_kernels_are_counted_by_hand(said, condition, trips):
    """A GPU's compiler says how often a loop runs; a TPU's leaves the counter's bound."""
    text = PROGRAM.replace(", KNOWN", said).replace(ALWAYS, condition)
    found = traffic.of_program(hlo.parse(text))
    assert found.num_bytes == trips * PASS + REST
    assert found.kernels == trips * 3 + 2
    assert found.flops == {}


def counted(shapes, result, call):
    """Returns the traffic of a program of one instruction of `f32` or other arrays."""
    head = ", ".join(f"p{i}: {shape}" for i, shape in enumerate(shapes))
    lines = [f"  %p{i} = {shape} parameter({i})" for i, shape in enumerate(shapes)]
    names = ", ".join(f"%p{i}" for i in range(len(shapes)))
    lines.append(f"  ROOT %r = {result} {call.replace('ARGUMENTS', names)}")
    return traffic.of_program(
        hlo.parse("\n".join([f"ENTRY %main ({head}) -> {result} {{", *lines, "}"]))
    )


TABLE, ROWS = "f32[8,1024]{1,0:T(8,128)}", "f32[2,1024]{1,0:T(2,128)S(1)}"
PLACE = "s32[]{:T(128)S(6)}"
KEPT = TABLE.replace("}", "S(1)}")


@pytest.mark.parametrize(
    ("shapes", "result", "call", "num_bytes"),
    [
        ([TABLE], f"(({TABLE}), {ROWS}, s32[]{{:S(2)}})", "slice-start(ARGUMENTS)", 8192),
        ([TABLE, PLACE, PLACE], ROWS, "dynamic-slice(ARGUMENTS)", 8192),
        ([TABLE, ROWS, PLACE, PLACE], TABLE, "dynamic-update-slice(ARGUMENTS)", 8192),
        ([TABLE, "s32[2]{0:T(128)S(1)}", ROWS], TABLE, "scatter(ARGUMENTS)", 8192),
        ([KEPT], f"({TABLE}, {KEPT}, u32[]{{:S(2)}})", "copy-start(ARGUMENTS)", 32768),
    ],
)
def test_what_a_tpu_moves_between_its_memories_is_counted_once(shapes, result, call, num_bytes):
    assert counted(shapes, result, call) == (num_bytes, 1, {})


@pytest.mark.parametrize(
    ("shape", "num_bytes"),
    [("bf16[3,5,206]{2,1,0:T(8,128)(2,1)}", 3 * 8 * 256 * 2), ("f32[206,3]{0,1:T(8,128)}", 8192)],
)
def test_a_tile_is_moved_whole(shape, num_bytes):
    assert counted([shape], shape, "negate(ARGUMENTS)") == (2 * num_bytes, 1, {})


def test_slices_that_lie_together_are_joined_for_nothing():
    call = 'custom-call(ARGUMENTS), custom_call_target="ConcatBitcast"'
    assert counted([ROWS, ROWS], ROWS.replace("[2", "[4"), call) == (0, 0, {})


ON_CHIP = """
%body (state: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %state = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %weights = f32[8,128]{1,0:T(8,128)S(1)} get-tuple-element(%state), index=1
  %new = f32[8,128]{1,0:T(8,128)S(1)} negate(%weights)
  ROOT %next = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) tuple(%i, %new)
}

%condition (state: (s32[], f32[8,128])) -> pred[] {
  %state = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%state), index=0
  %most = s32[]{:T(128)} constant(7)
  ROOT %less = pred[] compare(%i, %most), direction=LT
}

%fused (p0: f32[16,128], p1: f32[8,128]) -> f32[16,128] {
  %p0 = f32[16,128]{1,0:T(8,128)} parameter(0)
  %p1 = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  ROOT %new = f32[16,128]{1,0:T(8,128)} dynamic-update-slice(%p0, %p1, %zero, %zero)
}

ENTRY %main (x: f32[16,128], w: f32[8,128]) -> f32[16,128] {
  %x = f32[16,128]{1,0:T(8,128)} parameter(0)
  %w = f32[8,128]{1,0:T(8,128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %read = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%w)
  %here = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%read)
  %carry = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) tuple(%zero, %here)
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)S(1)}) while(%carry), condition=%condition, \
body=%body
  %trained = f32[8,128]{1,0:T(8,128)S(1)} get-tuple-element(%loop), index=1
  ROOT %out = f32[16,128]{1,0:T(8,128)} fusion(%x, %trained), kind=kLoop, calls=%fused
}
"""


def test_what_stays_on_the_chip_through_a_loop_is_read_and_written_once():
    """However often the loop runs: weights that a TPU updates in its vector memory."""
    assert traffic.of_program(hlo.parse(ON_CHIP)) == (2 * 8 * 128 * 4, 1 + 7 + 1, {})


GEMM = (
    'custom-call(ARGUMENTS), custom_call_target="__cublas$lt$matmul", backend_config={'
    '"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],'
    '"rhs_contracting_dimensions":["0"]},"precision_config":{"operand_precision":["A","A"]}}}'
)


@pytest.mark.parametrize(
    ("dtype", "precision", "kind", "size"),
    [
        ("f32", "DEFAULT", "tf32", 4),
        ("f32", "HIGHEST", "float32", 4),
        ("bf16", "DEFAULT", "bfloat16", 2),
    ],
)
def test_a_product_of_a_library(dtype, precision, kind, size):
    """The library's own memory is not moved, and precision decides which units do it."""
    found = counted(
        [f"{dtype}[256,512]{{1,0}}", f"{dtype}[512,128]{{1,0}}"],
        f"({dtype}[256,128]{{1,0}}, s8[4194304]{{0}})",
        GEMM.replace('"A"', f'"{precision}"'),
    )
    assert found.flops == {kind: 2 * 256 * 512 * 128}
    assert found.num_bytes == size * (256 * 512 + 512 * 128 + 256 * 128)
    assert found.kernels == 1


@pytest.mark.parametrize("groups", [1, 40])
def test_a_convolution_and_its_gradients_are_as_many_products(groups):
    """Image `b01f`, kernel `o01i` of a group, at stride 2."""
    image, kernel, out = "bf16[48,150,150,40]", f"bf16[80,3,3,{40 // groups}]", "bf16[48,75,75,80]"
    flops = 2 * 48 * 75 * 75 * 80 * 9 * (40 // groups)
    for pass_, shapes, result in [
        ("Forward", [image, kernel], out),
        ("BackwardInput", [out, kernel], image),
        ("BackwardFilter", [image, out], kernel),
    ]:
        call = (
            "custom-call(ARGUMENTS), window={size=3x3 stride=2x2 pad=1_1x1_1}, "
            f"dim_labels=b01f_o01i->b01f, feature_group_count={groups}, "
            f'custom_call_target="__cudnn$conv{pass_}"'
        )
        found = counted(shapes, f"({result}, u8[0])", call)
        assert found.flops == {"bfloat16": flops}, pass_


def test_a_fused_product_is_one_kernel():
    program = """
%fused (p0: f32[4,8], p1: f32[8,2]) -> f32[4,2] {
  %p0 = f32[4,8]{1,0} parameter(0)
  %p1 = f32[8,2]{1,0} parameter(1)
  %dot = f32[4,2]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %less = f32[4,2]{1,0} negate(%dot)
}

ENTRY %main (x: f32[4,8], y: f32[8,2]) -> f32[4,2] {
  %x = f32[4,8]{1,0} parameter(0)
  %y = f32[8,2]{1,0} parameter(1)
  ROOT %out = f32[4,2]{1,0} fusion(%x, %y), kind=kCustom, calls=%fused
}
"""
    found = traffic.of_program(hlo.parse(program))
    assert found == (4 * (32 + 16 + 8), 1, {"tf32": 2 * 4 * 8 * 2})


SLICES = """
%fused (p0: bf16[6,9], p1: f32[6,4], p2: f32[6,3], p3: f32[6], p4: f32[90,9]) -> f32[6,5] {
  %p0 = bf16[6,9]{1,0} parameter(0)
  %wide = f32[6,9]{1,0} convert(%p0)
  %p1 = f32[6,4]{1,0} parameter(1)
  %p2 = f32[6,3]{1,0} parameter(2)
  %joined = f32[6,7]{1,0} concatenate(%p1, %p2), dimensions={1}
  %p3 = f32[6]{0} parameter(3)
  %spread = f32[6,9]{1,0} broadcast(%p3), dimensions={0}
  %p4 = f32[90,9]{1,0} parameter(4)
  %rows = s32[6]{0} constant({...})
  %chosen = f32[6,1,9]{2,1,0} gather(%p4, %rows), slice_sizes={1,9}
  %flat = f32[6,9]{1,0} bitcast(%chosen)
  %more = f32[6,9]{1,0} add(%flat, %spread)
  %sum = f32[6,9]{1,0} add(%wide, %more)
  %part = f32[6,5]{1,0} slice(%sum), slice={[0:6], [4:9]}
  %other = f32[6,5]{1,0} slice(%joined), slice={[0:6], AXIS}
  ROOT %out = f32[6,5]{1,0} multiply(%part, %other)
}

ENTRY %main (a: bf16[6,9], b: f32[6,4], c: f32[6,3], d: f32[6], e: f32[90,9]) -> f32[6,5] {
  %a = bf16[6,9]{1,0} parameter(0)
  %b = f32[6,4]{1,0} parameter(1)
  %c = f32[6,3]{1,0} parameter(2)
  %d = f32[6]{0} parameter(3)
  %e = f32[90,9]{1,0} parameter(4)
  ROOT %out = f32[6,5]{1,0} fusion(%a, %b, %c, %d, %e), kind=kLoop, calls=%fused
}
"""


@pytest.mark.parametrize(
    ("axis", "first", "second"),
    [("[2:7]", 2, 3), ("[0:5]", 4, 1), ("[4:7:2]", 0, 3)],
)
def test_of_what_is_cut_only_the_slices_are_read(axis, first, second):
    """Through what is computed before them, by columns; of gathered rows by their number."""
    found = traffic.of_program(hlo.parse(SLICES.replace("AXIS", axis)))
    columns = 5 * 2 + 5 * 4 + 4 * first + 4 * second + 4 + 5 * 4
    assert found.num_bytes == 6 * columns
    assert found.kernels == 1


def test_other_texts_are_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("HloModule empty\n")
