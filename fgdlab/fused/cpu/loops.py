"""Compiled loops over all levels on the CPU: their terms, and the gradients. Importing this file needs numba.

A tile is all channels of at most WIDE cells of one image of a level. It stays in the cache while all that a pass wants of it is taken: when a first visit has
seen all channels, each cell's |F| and logits are known, and a second visit weighs by them. Softmaxes over all cells are known only at the end, so a
tile is weighed by the powers of its logits below the tile's largest, and :func:`close` puts all tiles to one scale:

    softmax_j = e^(l_j - tile's peak) * e^(tile's peak - peak) / sum_k e^(l_k - peak)

Each tile leaves its sums in a place of its own and ``close`` adds them in their order: no number depends on which thread reads what when.

    read     S, T --> logits and powers by cell, sums by channel, tile after tile
    close    these --> A^S, A^C, w, contexts, and the terms                          level after level, image after image
    pull     gradients of the terms --> factors by channel, gradients of R           level after level, image after image
    write    S, T, factors --> gradient of S, parts of those of both W_k             tile after tile; the lines are those of gradient.py
    keys     these parts --> gradients of W_k

``table`` (L + 1, 15) says of each level where its maps lie, how many cells M it has, and at which tile and at which column of the rows by cell it
begins; its last row, where all ends. What is kept on disk is compiled anew when this file changes, and no other: so all of it stands here. D = T - S. A part of attention that is off is one of sharpness 0, the limit of a high temperature: 1 everywhere.
"""
from collections.abc import Callable
from functools import cache
from types import FunctionType, SimpleNamespace

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

WIDE = 256                                                           # cells of a tile at most, and the length of a tile's rows
LINE = 16                                                            # float32 in a cache line
AHEAD = 4                                                            # channels that are asked for before they are read
ENDLESS = 2**48                                                      # values; what is read ends where the map does
BLOCK = 8                                                            # cells and channels of a block that is turned at once
MSE, CENTRED, GC = 1, 2, 3                                           # kinds of relation; 0 is none

# Columns of the table. A map: the address of its first value, and the steps from image to image, from channel to channel, from cell to cell.
OF_S, OF_T, OF_OUT, CELLS, COLUMN, TILE = 0, 4, 8, 12, 13, 14

# Rows by cell: of all levels side by side (N, 4, all M), and of a tile, one WIDE after the other.
LOOK_S, LOOK_T, KEY_S, KEY_T = range(4)                              # logits, then powers; after close A^S of both and w of both
FG, BG = 4 * WIDE, 5 * WIDE                                          # of a tile: a mask times the powers that weigh it
FOCAL, SIGN, W_S, DL_S, DL_T = (row * WIDE for row in range(5))      # of a tile, backward
ROWS = 6 * WIDE

# Rows by channel; those of an image stand by level, (L, N, ..).
ABS_S, ABS_T, SHIFT, SQUARES, CONTEXT_S, CONTEXT_T, FOCAL_S, FOCAL_T = 0, 1, 2, 3, 4, 5, 6, 8       # sums, (10, C); FOCAL_*: of fg, then of bg
A_S, A_T, APART = 0, 1, 3                                            # of an image (6, C): A^C in the place of |F|, e in that of D^2; then the rows above
WEIGHT, FLAT, PULL_S, PULL_T = 0, 1, 2, 3                            # of an image, backward (5, C): A^C of eq. 9, what is added everywhere, g_context
BY_CHANNEL = 4                                                       # g_channel / HW

OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}        # sums in any order; NaN and infinity stay
inner = njit(**OPTIONS)


# ---- memory --------------------------------------------------------------------------------------------------------------------------

@intrinsic
def fetch(typing, flat, place):
    """Ask for the cache line of a place without waiting for it. Rows of a tile lie far apart: the processor does not foresee the next."""

    def written(context, builder, signature, given):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        known = builder.module.globals.get("llvm.prefetch.p0")
        call = known or ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [byte] + [number] * 3), "llvm.prefetch.p0")
        values = context.make_array(signature.args[0])(context, builder, given[0]).data
        builder.call(call, [builder.bitcast(builder.gep(values, [given[1]]), byte), number(0), number(3), number(1)])      # to read, to keep, data
        return context.get_dummy_value()

    return types.void(flat, types.int64), written


@intrinsic
def pointer(typing, address, like):
    """An address as a pointer to numbers such as ``like`` holds. A view of a tensor in numpy costs as much as the sums of a small level."""
    kind = types.CPointer(like.dtype)

    def written(context, builder, signature, given):
        return builder.inttoptr(given[0], context.get_value_type(kind))

    return kind(types.int64, like), written


@inner
def at_address(address, like):
    """All memory from an address on, as one row."""
    return carray(pointer(address, like), (ENDLESS,))


@inner
def fetch_row(flat, at, cells):
    for i in range(0, cells, LINE):
        fetch(flat, at + i)


@inner
def from_a_line_on(scratch):
    """The scratch from its first value that begins a cache line: rows that lie across two lines take twice the time to load."""
    return scratch[-(scratch.ctypes.data // scratch.itemsize) % LINE:]


@inner
def sample_of(tile, table, wide):
    """Level, image, first cell and number of cells of a tile."""
    level = 0
    while tile >= table[level + 1, TILE]:
        level += 1
    cells = table[level, CELLS]
    of_image, inside = -(-cells // wide), tile - table[level, TILE]
    start = inside % of_image * wide
    return level, inside // of_image, start, min(wide, cells - start)


def turned(back: bool) -> Callable:
    """A loop that copies a tile to rows, a channel each WIDE values, or ``back`` from them. Blocks, whose length is known when they are compiled, take
    half the time; where channels do not lie side by side it goes value after value."""

    @inner
    def turn(rows, flat, at, by_channel, by_cell, cells, channels):
        floored_cells, whole_channels = (cells - cells % BLOCK, channels - channels % BLOCK) if by_channel == 1 else (0, 0)
        for c in range(0, whole_channels, BLOCK):
            for i in range(0, floored_cells, BLOCK):
                row, map_ = rows[c * WIDE + i:], flat[at + c + i * by_cell:]
                for j in range(BLOCK):
                    for k in range(BLOCK):
                        if back:
                            map_[j * by_cell + k] = row[k * WIDE + j]
                        else:
                            row[k * WIDE + j] = map_[j * by_cell + k]
        for c in range(channels):
            for i in range(floored_cells if c < whole_channels else 0, cells):
                if back:
                    flat[at + c * by_channel + i * by_cell] = rows[c * WIDE + i]
                else:
                    rows[c * WIDE + i] = flat[at + c * by_channel + i * by_cell]

    return turn


to_rows, from_rows = turned(back=False), turned(back=True)


@inner
def tile_of(lay, image, start, cells, channels, scratch):
    """(memory, first place, step from channel to channel) of a tile whose cells lie side by side: the map itself, else a copy in ``scratch``."""
    flat, first = at_address(lay[0], scratch), image * lay[1] + start * lay[3]
    if lay[3] == 1:
        return flat, first, lay[2]
    to_rows(scratch, flat, first, lay[2], lay[3], cells, channels)
    return scratch, 0, WIDE


# ---- forward -------------------------------------------------------------------------------------------------------------------------

@inner
def first_visit(s, s_at, s_step, t, t_at, t_step, cells, channels, keys, rows, sums):
    """C g and logits by cell, into rows; sums of |S|, |T|, D and D^2 by channel."""
    zero = rows.dtype.type(0)
    for i in range(cells):
        rows[i], rows[i + WIDE], rows[i + 2 * WIDE], rows[i + 3 * WIDE] = zero, zero, zero, zero
    for c in range(channels):
        s_row, t_row = s[s_at + c * s_step:s_at + c * s_step + cells], t[t_at + c * t_step:t_at + c * t_step + cells]
        if c + AHEAD < channels:
            fetch_row(s, s_at + (c + AHEAD) * s_step, cells)
            fetch_row(t, t_at + (c + AHEAD) * t_step, cells)
        key_s, key_t = keys[0, c], keys[1, c]
        abs_s, abs_t, shift, squares = zero, zero, zero, zero
        for i in range(cells):
            x, y = s_row[i], t_row[i]
            d = y - x
            rows[i] += abs(x)                                        # C G^S of eq. 5
            rows[i + WIDE] += abs(y)
            rows[i + 2 * WIDE] += key_s * x                          # W_k F of eq. 13
            rows[i + 3 * WIDE] += key_t * y
            abs_s += abs(x)                                          # HW G^C of eq. 6
            abs_t += abs(y)
            shift += d
            squares += d * d
        sums[ABS_S, c], sums[ABS_T, c], sums[SHIFT, c], sums[SQUARES, c] = abs_s, abs_t, shift, squares


@inner
def to_powers(rows, cells, sharpness, peaks, wholes):
    """Turn the four rows into e^(l - the tile's peak), the first two after they were made the logits of eq. 7; keep peaks and sums."""
    for row in range(4):
        line = rows[row * WIDE:row * WIDE + cells]
        if row < KEY_S:
            for i in range(cells):
                line[i] *= sharpness
        peak = line[0]
        for i in range(cells):
            if line[i] > peak:
                peak = line[i]
        whole = rows.dtype.type(0)
        for i in range(cells):
            line[i] = np.exp(line[i] - peak)
            whole += line[i]
        peaks[row], wholes[row] = peak, whole


@inner
def second_visit(s, s_at, s_step, t, t_at, t_step, cells, channels, fg, bg, look, rows, sums, focal):
    """By channel: contexts of eq. 13; and eq. 9, sums of D^2 weighed by each mask times the powers in row ``look``, into ``focal`` (2, C)."""
    zero = rows.dtype.type(0)
    powers = rows[look * WIDE:look * WIDE + cells]
    for i in range(cells):
        rows[i + FG], rows[i + BG] = fg[i] * powers[i], bg[i] * powers[i]
    for c in range(channels):
        s_row, t_row = s[s_at + c * s_step:s_at + c * s_step + cells], t[t_at + c * t_step:t_at + c * t_step + cells]
        context_s, context_t, of_fg, of_bg = zero, zero, zero, zero
        for i in range(cells):
            x, y = s_row[i], t_row[i]
            d = y - x
            context_s += rows[i + 2 * WIDE] * x
            context_t += rows[i + 3 * WIDE] * y
            of_fg += rows[i + FG] * (d * d)
            of_bg += rows[i + BG] * (d * d)
        sums[CONTEXT_S, c], sums[CONTEXT_T, c], focal[0, c], focal[1, c] = context_s, context_t, of_fg, of_bg


def read(first, last, scratch, table, fg, bg, keys, shares, sharpness, wide, by_cell, sums, peaks, wholes):
    """Tiles ``first`` to ``last`` of all. ``shares``: how much S's and T's attention weigh eq. 9; ``sharpness``: 1 / (T C) of eq. 7."""
    channels, scratch = sums.shape[2], from_a_line_on(scratch)
    rows, copies = scratch[:ROWS], channels * WIDE
    copy_s, copy_t = scratch[ROWS:ROWS + copies], scratch[ROWS + copies:ROWS + 2 * copies]
    for tile in range(first, last):
        level, image, start, cells = sample_of(tile, table, wide)
        s, s_at, s_step = tile_of(table[level, OF_S:OF_T], image, start, cells, channels, copy_s)
        t, t_at, t_step = tile_of(table[level, OF_T:OF_OUT], image, start, cells, channels, copy_t)
        here, column = sums[tile], table[level, COLUMN] + start
        first_visit(s, s_at, s_step, t, t_at, t_step, cells, channels, keys[level], rows, here)
        to_powers(rows, cells, rows.dtype.type(sharpness), peaks[tile], wholes[tile])
        for who in range(2):
            if shares[who] > 0 or who == 1 and shares[0] == 0:       # contexts are wanted without eq. 9, too
                focal = here[FOCAL_S + 2 * who:FOCAL_S + 2 * who + 2]
                second_visit(s, s_at, s_step, t, t_at, t_step, cells, channels, fg[image, column:], bg[image, column:], who, rows, here, focal)
        for row in range(4):
            for i in range(cells):
                by_cell[image, row, column + i] = rows[row * WIDE + i]


@inner
def to_scale(image, column, cells, wide, by_cell, peaks, wholes):
    """Put the powers of each tile to the scale of all: rows become softmaxes, times M for attention; ``peaks`` become what each tile was put by."""
    tiles, kind = len(peaks), by_cell.dtype.type
    for row in range(4):
        peak, whole = peaks[0, row], 0.0
        for tile in range(tiles):
            if peaks[tile, row] > peak:
                peak = peaks[tile, row]
        for tile in range(tiles):
            peaks[tile, row] = np.exp(peaks[tile, row] - peak)
            whole += peaks[tile, row] * wholes[tile, row]
        scale = (cells if row < KEY_S else 1) / whole
        for tile in range(tiles):
            factor = kind(peaks[tile, row] * scale)
            peaks[tile, row] = factor
            line = by_cell[image, row, column + tile * wide:column + min((tile + 1) * wide, cells)]
            for i in range(len(line)):
                line[i] *= factor


@inner
def add_tiles(shares, sums, factors, added):
    """What the sums by channel of all tiles of an image come to, (10, C) in float64."""
    channels = sums.shape[2]
    added[:] = 0
    for tile in range(len(sums)):
        for row in range(10):
            factor = 1.0
            if row in (CONTEXT_S, CONTEXT_T):
                factor = factors[tile, KEY_S + row - CONTEXT_S]
            elif row >= FOCAL_S:
                who = (row - FOCAL_S) // 2
                if shares[who] == 0:
                    continue
                factor = factors[tile, LOOK_S + who] * shares[who]
            for c in range(channels):
                added[row, c] += factor * sums[tile, row, c]


@inner
def sharpened(added, sharpness, out):
    """A^C of eq. 8 from sums of |F|."""
    channels, peak, whole = len(added), added[0], 0.0
    for c in range(channels):
        if added[c] > peak:
            peak = added[c]
    for c in range(channels):
        added[c] = np.exp((added[c] - peak) * sharpness)
        whole += added[c]
    for c in range(channels):
        out[c] = added[c] * channels / whole


def close(table, shares, sharpness, wide, relation, weights, eps, by_cell, sums, peaks, wholes, by_channel, middle, terms):
    """Finish what ``read`` left; ``terms`` (L, 4) become eq. 9 of fg and of bg, eq. 10 and eq. 12, each averaged over the batch. ``sharpness``: 1 / T of
    eq. 8; ``middle``: see :func:`transform`."""
    images, channels = by_cell.shape[0], sums.shape[2]
    added, e = np.empty((10, channels)), np.empty(channels)
    terms[:] = 0
    for level in range(len(terms)):
        cells, column = table[level, CELLS], table[level, COLUMN]
        of_image = -(-cells // wide)
        for image in range(images):
            tiles = slice(table[level, TILE] + image * of_image, table[level, TILE] + (image + 1) * of_image)
            kept, squares = by_channel[level, image], 0.0
            to_scale(image, column, cells, wide, by_cell, peaks[tiles], wholes[tiles])
            add_tiles(shares, sums[tiles], peaks[tiles], added)
            for c in range(channels):
                squares += added[SQUARES, c]
                kept[SHIFT, c], kept[CONTEXT_S, c], kept[CONTEXT_T, c] = added[SHIFT, c], added[CONTEXT_S, c], added[CONTEXT_T, c]
            sharpened(added[ABS_S], sharpness / cells, kept[A_S])
            sharpened(added[ABS_T], sharpness / cells, kept[A_T])
            fg, bg, attention, whole = 0.0, 0.0, 0.0, squares
            for c in range(channels):
                weight = 0.0                                         # A^C of eq. 9
                for who in range(2):
                    weight += shares[who] * kept[A_S + who, c]
                for who in range(2):
                    if shares[who] > 0:
                        fg += weight * added[FOCAL_S + 2 * who, c]   # eq. 9
                        bg += weight * added[FOCAL_S + 2 * who + 1, c]
                attention += abs(kept[A_S, c] - kept[A_T, c])        # eq. 10
            look_s, look_t = by_cell[image, LOOK_S, column:column + cells], by_cell[image, LOOK_T, column:column + cells]
            for i in range(cells):
                attention += abs(look_s[i] - look_t[i])
            kept[APART] = 0
            if relation > MSE:
                apart(relation, weights[level], eps, cells, kept, middle[level, image], e)
                for c in range(channels):
                    whole += e[c] * (2 * kept[SHIFT, c] + cells * e[c])          # sum (D + e)^2 of eq. 12
                    kept[APART, c] = e[c]
            for i, term in enumerate((fg, bg, attention, whole)):
                terms[level, i] += term / images


# ---- R of eq. 13 ---------------------------------------------------------------------------------------------------------------------

@inner
def layers(flat, who, channels, hidden):
    """W_v1, its bias, weight and bias of LN, W_v2, its bias, of one network's block; ``flat`` has W_k and its bias before them."""
    at = who * (2 * channels * hidden + 2 * channels + 3 * hidden + 1) + channels + 1
    narrow, at = flat[at:at + hidden * channels].reshape((hidden, channels)), at + hidden * channels
    bias, norm, norm_bias, at = flat[at:at + hidden], flat[at + hidden:at + 2 * hidden], flat[at + 2 * hidden:at + 3 * hidden], at + 3 * hidden
    widen, at = flat[at:at + channels * hidden].reshape((channels, hidden)), at + channels * hidden
    return narrow, bias, norm, norm_bias, widen, flat[at:at + channels]


@inner
def transform(flat, who, context, eps, middle):
    """W_v1 context, normed but for weight and bias, into middle[0]; ReLU(LN(..)) into middle[1]; 1 / spread into middle[2, 0]. ``middle`` (3, hidden)."""
    channels, hidden = len(context), middle.shape[1]
    narrow, bias, norm, norm_bias, _, _ = layers(flat, who, channels, hidden)
    mean, spread = 0.0, 0.0
    for h in range(hidden):
        found = flat.dtype.type(0)
        for c in range(channels):
            found += narrow[h, c] * context[c]
        middle[0, h] = found + bias[h]
        mean += middle[0, h] / hidden
    for h in range(hidden):
        spread += (middle[0, h] - mean) ** 2 / hidden
    middle[2, 0] = 1 / np.sqrt(spread + eps)
    for h in range(hidden):
        middle[0, h] = (middle[0, h] - mean) * middle[2, 0]
        found = middle[0, h] * norm[h] + norm_bias[h]
        middle[1, h] = found if not found < 0 else 0.0


@inner
def apart(relation, flat, eps, cells, kept, middle, e):
    """e by which R moves D, the same in all cells: v_t - v_s of eq. 13, or minus the spatial mean of D ("centred")."""
    channels, hidden = len(e), middle.shape[2]
    if relation == CENTRED:
        for c in range(channels):
            e[c] = -kept[SHIFT, c] / cells
    if relation == GC:
        e[:] = 0
        for who in range(2):
            transform(flat, who, kept[CONTEXT_S + who], eps, middle[who])
            _, _, _, _, widen, bias = layers(flat, who, channels, hidden)
            side = 2 * who - 1                                       # v_t - v_s
            for c in range(channels):
                found = flat.dtype.type(0)
                for h in range(hidden):
                    found += widen[c, h] * flat.dtype.type(middle[who, 1, h])
                e[c] += side * (found + bias[c])


@inner
def pull_transform(flat, of_flat, who, context, middle, g, of_context):
    """Gradients of a block from that of its v, ``g`` (C,): of its parameters, added to ``of_flat``, and of its context."""
    channels, hidden = len(context), middle.shape[1]
    back = np.zeros(hidden)
    narrow, _, norm, _, widen, _ = layers(flat, who, channels, hidden)
    of_narrow, of_bias, of_norm, of_norm_bias, of_widen, of_widen_bias = layers(of_flat, who, channels, hidden)
    for c in range(channels):
        for h in range(hidden):
            of_widen[c, h] += g[c] * middle[1, h]
            back[h] += g[c] * widen[c, h]
        of_widen_bias[c] += g[c]
    mean, along = 0.0, 0.0
    for h in range(hidden):
        through = back[h] if not middle[1, h] <= 0 else 0.0          # ReLU
        of_norm[h] += through * middle[0, h]
        of_norm_bias[h] += through
        back[h] = through * norm[h]
        mean += back[h] / hidden
        along += back[h] * middle[0, h] / hidden
    of_context[:] = 0
    for h in range(hidden):
        through = (back[h] - mean - middle[0, h] * along) * middle[2, 0]
        of_bias[h] += through
        for c in range(channels):
            of_narrow[h, c] += through * context[c]
            of_context[c] += through * narrow[h, c]


# ---- backward ------------------------------------------------------------------------------------------------------------------------

def pull(table, g, shares, sharpness, relation, weights, by_cell, by_channel, middle, factors, flat, of_weights):
    """From ``g`` (L, 4), gradients of the terms: ``factors`` by channel (L, N, 5, C), three numbers an image in ``flat`` (L, N, 3), gradients of R."""
    images, channels = by_cell.shape[0], by_channel.shape[3]
    of_e = np.empty(channels)
    of_weights[:] = 0
    for level in range(len(g)):
        cells, column = table[level, CELLS], table[level, COLUMN]
        of_attention, of_global = g[level, 2] / images, g[level, 3] / images
        for image in range(images):
            look_s, look_t = by_cell[image, LOOK_S, column:column + cells], by_cell[image, LOOK_T, column:column + cells]
            kept, out, numbers = by_channel[level, image], factors[level, image], flat[level, image]
            mean = 0.0                                               # eq. 10 through the softmax of eq. 7, see sign_of
            for i in range(cells):
                mean += sign_of(look_s[i] - look_t[i]) * look_s[i] / cells
            numbers[0] = mean
            mean = 0.0
            for c in range(channels):
                mean += sign_of(kept[A_S, c] - kept[A_T, c]) * kept[A_S, c] / channels
            for c in range(channels):
                out[WEIGHT, c] = shares[0] * kept[A_S, c] + shares[1] * kept[A_T, c]
                out[BY_CHANNEL, c] = of_attention * sharpness / cells * kept[A_S, c] * (sign_of(kept[A_S, c] - kept[A_T, c]) - mean)
                out[FLAT, c] = -2 * of_global * kept[APART, c]
                out[PULL_S, c], out[PULL_T, c] = 0, 0
                of_e[c] = 2 * of_global * (kept[SHIFT, c] + cells * kept[APART, c])
            numbers[1], numbers[2] = 0, 0
            if relation == GC:
                for who in range(2):
                    if who == 0:
                        of_e *= -1                                   # e = v_t - v_s
                    pull_transform(weights[level], of_weights[level], who, kept[CONTEXT_S + who], middle[level, image, who], of_e, out[PULL_S + who])
                    if who == 0:
                        of_e *= -1
                    for c in range(channels):
                        numbers[1 + who] += out[PULL_S + who, c] * kept[CONTEXT_S + who, c]


@inner
def sign_of(value):
    """-1, 0 or 1. The gradient of |A_s - A_t| to the logits of A_s: A_s (sign - mean of sign A_s)."""
    return (value > 0) - (value < 0)


@inner
def by_cell_rows(image, column, cells, g, shares, sharpness, fg, bg, by_cell, mean, rows):
    """What multiplies numbers by channel in a tile: A^S (g_fg fg + g_bg bg), g_cell / C, w of S; and zeros for dl of both."""
    kind, images = rows.dtype.type, by_cell.shape[0]
    g_fg, g_bg, of_attention = kind(2 * g[0] / images), kind(2 * g[1] / images), kind(g[2] / images * sharpness)
    share_s, share_t, mean = kind(shares[0]), kind(shares[1]), kind(mean)
    for i in range(cells):
        a_s, a_t = by_cell[image, LOOK_S, column + i], by_cell[image, LOOK_T, column + i]
        rows[i + FOCAL] = (share_s * a_s + share_t * a_t) * (g_fg * fg[image, column + i] + g_bg * bg[image, column + i])
        rows[i + SIGN] = of_attention * a_s * (kind(sign_of(a_s - a_t)) - mean)
        rows[i + W_S], rows[i + DL_S], rows[i + DL_T] = by_cell[image, KEY_S, column + i], kind(0), kind(0)


@inner
def pulls(s, s_at, s_step, t, t_at, t_step, cells, factors, rows):
    """g_context . F of both networks by cell."""
    for c in range(factors.shape[1]):
        s_row, t_row = s[s_at + c * s_step:s_at + c * s_step + cells], t[t_at + c * t_step:t_at + c * t_step + cells]
        if c + AHEAD < factors.shape[1]:
            fetch_row(s, s_at + (c + AHEAD) * s_step, cells)
            fetch_row(t, t_at + (c + AHEAD) * t_step, cells)
        pull_s, pull_t = factors[PULL_S, c], factors[PULL_T, c]
        for i in range(cells):
            rows[i + DL_S] += pull_s * s_row[i]
            rows[i + DL_T] += pull_t * t_row[i]


@inner
def write_tile(out, o_at, o_step, s, s_at, s_step, t, t_at, t_step, cells, squares, factors, keys, rows, of_keys):
    """The gradient of S on a tile, and the tile's part of those of W_k, ``of_keys`` (2, C)."""
    zero, one = rows.dtype.type(0), rows.dtype.type(1)
    for c in range(factors.shape[1]):
        s_row, t_row = s[s_at + c * s_step:s_at + c * s_step + cells], t[t_at + c * t_step:t_at + c * t_step + cells]
        o_row = out[o_at + c * o_step:o_at + c * o_step + cells]
        weight, flat, by_channel, pull_s, key_s = factors[WEIGHT, c], factors[FLAT, c], factors[BY_CHANNEL, c], factors[PULL_S, c], keys[0, c]
        of_key_s, of_key_t = zero, zero
        for i in range(cells):
            x, y = s_row[i], t_row[i]
            sign = (one if x > zero else zero) - (one if x < zero else zero)
            found = (x - y) * (weight * rows[i + FOCAL] + squares)               # -2 (A^C A^S (..) + g_squares) D
            found += sign * (rows[i + SIGN] + by_channel) + flat                 # + sign(S) (..) - g_shift
            o_row[i] = found + pull_s * rows[i + W_S] + key_s * rows[i + DL_S]   # + g_context w + W_k dl
            of_key_s += rows[i + DL_S] * x                                       # of W_k: sum_hw dl F
            of_key_t += rows[i + DL_T] * y
        of_keys[0, c], of_keys[1, c] = of_key_s, of_key_t


def write(first, last, scratch, table, fg, bg, keys, g, shares, sharpness, relation, wide, by_cell, factors, flat, of_keys):
    """Tiles ``first`` to ``last``, as ``read`` counts them; those of a level without an address to write to are left out."""
    images, channels, kind, scratch = by_cell.shape[0], factors.shape[3], scratch.dtype.type, from_a_line_on(scratch)
    rows, copies = scratch[:ROWS], channels * WIDE
    copy_s, copy_t, copy_out = scratch[ROWS:ROWS + copies], scratch[ROWS + copies:ROWS + 2 * copies], scratch[ROWS + 2 * copies:]
    for tile in range(first, last):
        level, image, start, cells = sample_of(tile, table, wide)
        lay = table[level, OF_OUT:CELLS]
        if lay[0] == 0:
            continue
        s, s_at, s_step = tile_of(table[level, OF_S:OF_T], image, start, cells, channels, copy_s)
        t, t_at, t_step = tile_of(table[level, OF_T:OF_OUT], image, start, cells, channels, copy_t)
        column, of_channel = table[level, COLUMN] + start, factors[level, image]
        by_cell_rows(image, column, cells, g[level], shares, sharpness, fg, bg, by_cell, flat[level, image, 0], rows)
        if relation == GC:
            pulls(s, s_at, s_step, t, t_at, t_step, cells, of_channel, rows)
            of_s, of_t = kind(flat[level, image, 1]), kind(flat[level, image, 2])
            for i in range(cells):                                   # dl = w (g . F - g . context)
                rows[i + DL_S] = by_cell[image, KEY_S, column + i] * (rows[i + DL_S] - of_s)
                rows[i + DL_T] = by_cell[image, KEY_T, column + i] * (rows[i + DL_T] - of_t)
        squares, out, first_value = kind(2 * g[level, 3] / images), at_address(lay[0], scratch), image * lay[1] + start * lay[3]
        if lay[3] == 1:
            write_tile(out, first_value, lay[2], s, s_at, s_step, t, t_at, t_step, cells, squares, of_channel, keys[level], rows, of_keys[tile])
            continue
        write_tile(copy_out, 0, WIDE, s, s_at, s_step, t, t_at, t_step, cells, squares, of_channel, keys[level], rows, of_keys[tile])
        from_rows(copy_out, out, first_value, lay[2], lay[3], cells, channels)


def keys(table, of_keys, of_weights):
    """Add up what all tiles of a level found for both W_k, and put it where they stand in the row of its weights."""
    for level in range(len(of_weights)):
        row = of_weights[level]
        for who in range(2 if len(row) else 0):
            for c in range(of_keys.shape[2]):
                found = 0.0
                for tile in range(table[level, TILE], table[level + 1, TILE]):
                    found += of_keys[tile, who, c]
                row[who * (len(row) // 2) + c] = found


# ---- not compiled --------------------------------------------------------------------------------------------------------------------

def array(rows: list[list], kind: str) -> np.ndarray:
    return np.array(rows, kind)


def empty(kind: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays for numbers that one loop leaves to another."""
    return [np.empty(shape, kind) for shape in shapes]


def keys_of(weights: np.ndarray, channels: int) -> np.ndarray:
    """W_k of both networks of all levels, (L, 2, C), which stand first in a block's weights; zeros where there are no blocks."""
    levels, values = weights.shape
    return weights.reshape(levels, 2, -1)[:, :, :channels].copy() if values else np.zeros((levels, 2, channels), weights.dtype)


def rows_of(masks, shape: tuple[int, int], kind: str) -> list[np.ndarray]:
    """fg and bg of all levels side by side (N, all M) as the loops take them; zeros for None."""
    return [np.zeros(shape, kind) for _ in range(2)] if masks is None else [np.ascontiguousarray(each.numpy(), kind) for each in (masks.fg, masks.bg)]


# ---- compiled ------------------------------------------------------------------------------------------------------------------------

@cache
def compiled(dtype: str) -> SimpleNamespace:
    """The five loops for maps of "float32" or "float64", compiled on first use and kept on disk."""
    return SimpleNamespace(**{function.__name__: kept(function, dtype, **OPTIONS) for function in (read, close, pull, write, keys)})


def kept(function: FunctionType, kind: str, **options):
    """A function for arguments of one kind, kept on disk under a name of its own: two processes that compile two kinds under one name may mix them up."""
    copy = FunctionType(function.__code__, function.__globals__, f"{function.__name__}_{kind}")
    copy.__qualname__ = copy.__name__
    try:
        return njit(cache=True, **options)(copy)
    except RuntimeError:                                             # no folder that can be written: compiled anew in each process
        return njit(**options)(copy)
