"""Loops compiled by numba: the terms of all levels on the CPU, and their gradients. Importing this file needs numba.

A tile is all channels of at most WIDE cells of one image and level. It fits into the cache, so two visits read it from
memory once: the first sums |F| and the logits of each cell, the second weighs by them. The largest logit of all tiles
is known only at the end. So each tile takes exponentials relative to its own maximum, and :func:`finish_terms` rescales
them:

    softmax_j = e^(l_j - tile maximum) * e^(tile maximum - maximum) / sum_k e^(l_k - maximum)

Each tile has its own row of sums, and ``finish_terms`` adds them in a fixed order: results do not depend on threads.

With g for the gradients from above, w = softmax(W_k F) of eq. 13 and D = T - S, the gradients are

    of S      -2 (A^C A^S (g_fg fg + g_bg bg) + g_squares) D       eqs. 9 and 12
              + sign(S) (g_cell / C + g_channel / HW)               eqs. 5-6
              + g_context w + W_k dl - g_shift                      eqs. 13 and 12
    of W_k    sum_hw dl F,   dl = w (g_context . F - g_context . context)

``table`` (L + 1, 15) has a row per level: where its maps lie in memory, its number of cells M, its first tile and its
first column in rows per cell; the last row holds the ends. An attention part that is off has the inverse temperature
0: it is 1 everywhere. All loops on maps are in this file, because numba's cache notices edits to no other file.
"""
from collections.abc import Callable
from functools import cache
from types import FunctionType, SimpleNamespace

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

WIDE = 256  # largest number of cells in a tile, and the length of its rows
LINE = 16  # float32 values in a cache line
AHEAD = 4  # prefetch distance in channels
ENDLESS = 2**48  # length of a view of memory; the loops stop at the map's end
BLOCK = 8  # cells and channels of a block in a transposing copy
MSE, CENTRED, GC = 1, 2, 3  # kinds of relation; 0 is none

# Columns of the table. A map has four: address of the first value, strides of image, channel and cell.
S_MAP, T_MAP, OUT_MAP, CELLS, COLUMN, TILE = 0, 4, 8, 12, 13, 14

# Rows per cell, of all levels (N, 4, all M): logits, then exponentials; after finish_terms A^S and w of both networks.
A_S, A_T, W_S, W_T = range(4)
# Rows of a tile, each of WIDE values. Forward: the four above, then each mask times the exponentials that weigh it.
FG, BG = 4 * WIDE, 5 * WIDE
# Backward.
FOCAL, SIGN, SOFTMAX_S, DL_S, DL_T = (row * WIDE for row in range(5))
ROWS = 6 * WIDE

# Rows per channel: sums of a tile (10, C); FOCAL_S and FOCAL_T have a row for fg and one for bg.
ABS_S, ABS_T, SHIFT, SQUARES, CONTEXT_S, CONTEXT_T, FOCAL_S, FOCAL_T = 0, 1, 2, 3, 4, 5, 6, 8
# Of an image (L, N, 6, C): A^C in place of |F| (rows A_S and A_T), e in place of D^2, else the rows above.
E = 3
# Of an image, backward (L, N, 5, C): A^C of eq. 9, -g_shift, g_context of both, g_channel / HW.
WEIGHT, OFFSET, G_CONTEXT_S, G_CONTEXT_T, BY_CHANNEL = range(5)

# Sums may run in any order; NaN and infinity stay.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
inner = njit(**OPTIONS)


# ---- memory ---

@intrinsic
def prefetch(typing, flat, place):
    """Ask for the cache line of a place without waiting. The CPU does not predict it: rows of a tile lie far apart."""

    def generate(context, builder, signature, args):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte] + [number] * 3), name)
        values = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(values, [args[1]]), byte)
        builder.call(function, [address, number(0), number(3), number(1)])  # to read, keep in all caches, data
        return context.get_dummy_value()

    return types.void(flat, types.int64), generate


@intrinsic
def pointer(typing, address, like):
    """An address as a pointer to numbers like those of ``like``. A numpy view costs as much as a small level."""
    kind = types.CPointer(like.dtype)

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(types.int64, like), generate


@inner
def at_address(address, like):
    return carray(pointer(address, like), (ENDLESS,))


@inner
def cache_aligned(scratch):
    """From the start of a cache line on: rows across two lines load half as fast."""
    return scratch[-(scratch.ctypes.data // scratch.itemsize) % LINE:]


@inner
def position_of(tile, table, wide):
    level = 0
    while tile >= table[level + 1, TILE]:
        level += 1
    cells = table[level, CELLS]
    tiles_per_image, inside = -(-cells // wide), tile - table[level, TILE]
    start = inside % tiles_per_image * wide
    return level, inside // tiles_per_image, start, min(wide, cells - start)


def transposing_copy(back: bool) -> Callable:
    """A loop that copies a tile to rows of WIDE values, one per channel, or ``back``.

    Blocks of constant length halve the time. Other strides go value by value.
    """

    @inner
    def copy(rows, flat, first, by_channel, by_cell, cells, channels):
        whole_cells = cells - cells % BLOCK if by_channel == 1 else 0
        whole_channels = channels - channels % BLOCK if by_channel == 1 else 0
        for c in range(0, whole_channels, BLOCK):
            for i in range(0, whole_cells, BLOCK):
                row, map_ = rows[c * WIDE + i:], flat[first + c + i * by_cell:]
                for j in range(BLOCK):
                    for k in range(BLOCK):
                        if back:
                            map_[j * by_cell + k] = row[k * WIDE + j]
                        else:
                            row[k * WIDE + j] = map_[j * by_cell + k]
        for c in range(channels):
            for i in range(whole_cells if c < whole_channels else 0, cells):
                if back:
                    flat[first + c * by_channel + i * by_cell] = rows[c * WIDE + i]
                else:
                    rows[c * WIDE + i] = flat[first + c * by_channel + i * by_cell]

    return copy


to_rows, from_rows = transposing_copy(back=False), transposing_copy(back=True)


@inner
def tile_of(layout, image, start, cells, channels, scratch):
    """A tile with adjacent cells: (memory, first place, stride of channels), of the map or a copy in ``scratch``."""
    flat, first = at_address(layout[0], scratch), image * layout[1] + start * layout[3]
    if layout[3] == 1:
        return flat, first, layout[2]
    to_rows(scratch, flat, first, layout[2], layout[3], cells, channels)
    return scratch, 0, WIDE


@inner
def channel_of(tile, c, cells):
    flat, first, stride = tile
    return flat[first + c * stride:first + c * stride + cells]


@inner
def prefetch_channel(tile, c, cells):
    flat, first, stride = tile
    for i in range(0, cells, LINE):
        prefetch(flat, first + c * stride + i)


# ---- forward ---

@inner
def first_visit(s, t, cells, channels, keys, rows, sums):
    """C g and logits per cell, into rows; sums of |S|, |T|, D and D^2 per channel."""
    zero = rows.dtype.type(0)
    for i in range(cells):
        rows[i], rows[i + WIDE], rows[i + 2 * WIDE], rows[i + 3 * WIDE] = zero, zero, zero, zero
    for c in range(channels):
        s_row, t_row = channel_of(s, c, cells), channel_of(t, c, cells)
        if c + AHEAD < channels:
            prefetch_channel(s, c + AHEAD, cells)
            prefetch_channel(t, c + AHEAD, cells)
        key_s, key_t = keys[0, c], keys[1, c]
        abs_s, abs_t, shift, squares = zero, zero, zero, zero
        for i in range(cells):
            x, y = s_row[i], t_row[i]
            d = y - x
            rows[i] += abs(x)  # C G^S of eq. 5
            rows[i + WIDE] += abs(y)
            rows[i + 2 * WIDE] += key_s * x  # W_k F of eq. 13
            rows[i + 3 * WIDE] += key_t * y
            abs_s += abs(x)  # HW G^C of eq. 6
            abs_t += abs(y)
            shift += d
            squares += d * d
        sums[ABS_S, c], sums[ABS_T, c], sums[SHIFT, c], sums[SQUARES, c] = abs_s, abs_t, shift, squares


@inner
def to_exponentials(rows, cells, inverse_t, maxima, exp_sums):
    """Turn the four rows l, the first two times ``inverse_t``, into e^(l - maximum)."""
    for row in range(4):
        line = rows[row * WIDE:row * WIDE + cells]
        if row < W_S:
            for i in range(cells):
                line[i] *= inverse_t
        maximum = line[0]
        for i in range(cells):
            if line[i] > maximum:
                maximum = line[i]
        exp_sum = rows.dtype.type(0)
        for i in range(cells):
            line[i] = np.exp(line[i] - maximum)
            exp_sum += line[i]
        maxima[row], exp_sums[row] = maximum, exp_sum


@inner
def second_visit(s, t, cells, channels, fg, bg, weighing, rows, sums, focal):
    """Per channel: contexts of eq. 13; into ``focal`` (2, C) sums of D^2 times mask times row ``weighing`` (eq. 9)."""
    zero = rows.dtype.type(0)
    exponentials = rows[weighing * WIDE:weighing * WIDE + cells]
    for i in range(cells):
        rows[i + FG], rows[i + BG] = fg[i] * exponentials[i], bg[i] * exponentials[i]
    for c in range(channels):
        s_row, t_row = channel_of(s, c, cells), channel_of(t, c, cells)
        context_s, context_t, focal_fg, focal_bg = zero, zero, zero, zero
        for i in range(cells):
            x, y = s_row[i], t_row[i]
            d = y - x
            context_s += rows[i + 2 * WIDE] * x
            context_t += rows[i + 3 * WIDE] * y
            focal_fg += rows[i + FG] * (d * d)
            focal_bg += rows[i + BG] * (d * d)
        sums[CONTEXT_S, c], sums[CONTEXT_T, c], focal[0, c], focal[1, c] = context_s, context_t, focal_fg, focal_bg


def forward_tiles(first, last, scratch, table, fg, bg, keys, mix, inverse_t, wide, by_cell, sums, maxima, exp_sums):
    """Tiles ``first`` to ``last``. ``mix``: weights of S's and T's attention in eq. 9; ``inverse_t``: 1 / (T C)."""
    channels, scratch = sums.shape[2], cache_aligned(scratch)
    rows, copies = scratch[:ROWS], channels * WIDE
    copy_s, copy_t = scratch[ROWS:ROWS + copies], scratch[ROWS + copies:ROWS + 2 * copies]
    for tile in range(first, last):
        level, image, start, cells = position_of(tile, table, wide)
        s = tile_of(table[level, S_MAP:T_MAP], image, start, cells, channels, copy_s)
        t = tile_of(table[level, T_MAP:OUT_MAP], image, start, cells, channels, copy_t)
        tile_sums, column = sums[tile], table[level, COLUMN] + start
        first_visit(s, t, cells, channels, keys[level], rows, tile_sums)
        to_exponentials(rows, cells, rows.dtype.type(inverse_t), maxima[tile], exp_sums[tile])
        for who in range(2):
            if mix[who] > 0 or who == 1 and mix[0] == 0:  # contexts are needed without eq. 9, too
                focal = tile_sums[FOCAL_S + 2 * who:FOCAL_S + 2 * who + 2]
                second_visit(s, t, cells, channels, fg[image, column:], bg[image, column:], who, rows, tile_sums, focal)
        for row in range(4):
            for i in range(cells):
                by_cell[image, row, column + i] = rows[row * WIDE + i]


@inner
def rescale_tiles(image, column, cells, wide, by_cell, maxima, exp_sums):
    """To softmaxes of an image, times M for A^S; ``maxima`` become the factors."""
    tiles, kind = len(maxima), by_cell.dtype.type
    for row in range(4):
        maximum, exp_sum = maxima[0, row], 0.0
        for tile in range(tiles):
            if maxima[tile, row] > maximum:
                maximum = maxima[tile, row]
        for tile in range(tiles):
            maxima[tile, row] = np.exp(maxima[tile, row] - maximum)
            exp_sum += maxima[tile, row] * exp_sums[tile, row]
        scale = (cells if row < W_S else 1) / exp_sum
        for tile in range(tiles):
            factor = kind(maxima[tile, row] * scale)
            maxima[tile, row] = factor
            line = by_cell[image, row, column + tile * wide:column + min((tile + 1) * wide, cells)]
            for i in range(len(line)):
                line[i] *= factor


@inner
def add_tiles(mix, sums, factors, added):
    channels = sums.shape[2]
    added[:] = 0
    for tile in range(len(sums)):
        for row in range(10):
            factor = 1.0
            if row in (CONTEXT_S, CONTEXT_T):
                factor = factors[tile, W_S + row - CONTEXT_S]
            elif row >= FOCAL_S:
                who = (row - FOCAL_S) // 2
                if mix[who] == 0:
                    continue
                factor = factors[tile, A_S + who] * mix[who]
            for c in range(channels):
                added[row, c] += factor * sums[tile, row, c]


@inner
def channel_attention(abs_sums, inverse_t, out):
    """A^C of eq. 8 from sums of |F|."""
    channels, maximum, exp_sum = len(abs_sums), abs_sums[0], 0.0
    for c in range(channels):
        if abs_sums[c] > maximum:
            maximum = abs_sums[c]
    for c in range(channels):
        abs_sums[c] = np.exp((abs_sums[c] - maximum) * inverse_t)
        exp_sum += abs_sums[c]
    for c in range(channels):
        out[c] = abs_sums[c] * channels / exp_sum


def finish_terms(
    table, mix, inverse_t, wide, relation, weights, eps, by_cell, sums, maxima, exp_sums, by_channel, hidden, terms,
):
    """``terms`` (L, 4) become eq. 9 of fg and bg, eq. 10 and eq. 12, averaged over the batch. ``inverse_t``: 1 / T."""
    images, channels = by_cell.shape[0], sums.shape[2]
    added, e = np.empty((10, channels)), np.empty(channels)
    terms[:] = 0
    for level in range(len(terms)):
        cells, column = table[level, CELLS], table[level, COLUMN]
        tiles_per_image = -(-cells // wide)
        for image in range(images):
            first = table[level, TILE] + image * tiles_per_image
            tiles, rows = slice(first, first + tiles_per_image), by_channel[level, image]
            rescale_tiles(image, column, cells, wide, by_cell, maxima[tiles], exp_sums[tiles])
            add_tiles(mix, sums[tiles], maxima[tiles], added)
            squares = 0.0
            for c in range(channels):
                squares += added[SQUARES, c]
                for row in (SHIFT, CONTEXT_S, CONTEXT_T):
                    rows[row, c] = added[row, c]
            channel_attention(added[ABS_S], inverse_t / cells, rows[A_S])
            channel_attention(added[ABS_T], inverse_t / cells, rows[A_T])
            fg, bg, attention = 0.0, 0.0, 0.0
            for c in range(channels):
                weight = mix[0] * rows[A_S, c] + mix[1] * rows[A_T, c]  # A^C of eq. 9
                for who in range(2):
                    if mix[who] > 0:
                        fg += weight * added[FOCAL_S + 2 * who, c]
                        bg += weight * added[FOCAL_S + 2 * who + 1, c]
                attention += abs(rows[A_S, c] - rows[A_T, c])  # eq. 10
            for i in range(column, column + cells):
                attention += abs(by_cell[image, A_S, i] - by_cell[image, A_T, i])
            rows[E] = 0
            if relation > MSE:
                relation_offset(relation, weights[level], eps, cells, rows, hidden[level, image], e)
                for c in range(channels):
                    squares += e[c] * (2 * rows[SHIFT, c] + cells * e[c])  # sum (D + e)^2 of eq. 12
                    rows[E, c] = e[c]
            for i, term in enumerate((fg, bg, attention, squares)):
                terms[level, i] += term / images


# ---- R of eq. 13 ---

@inner
def layers(flat, who, channels, size):
    """W_v1, its bias, weight and bias of LN, W_v2, its bias, of one network's block; W_k stands before them."""
    at = who * (2 * channels * size + 2 * channels + 3 * size + 1) + channels + 1
    narrow, at = flat[at:at + size * channels].reshape((size, channels)), at + size * channels
    bias, norm, norm_bias = flat[at:at + size], flat[at + size:at + 2 * size], flat[at + 2 * size:at + 3 * size]
    at += 3 * size
    widen, at = flat[at:at + channels * size].reshape((channels, size)), at + channels * size
    return narrow, bias, norm, norm_bias, widen, flat[at:at + channels]


@inner
def transform(flat, who, context, eps, hidden):
    """hidden[0]: W_v1 context, normalised; hidden[1]: ReLU(LN(..)); hidden[2, 0]: 1 / standard deviation."""
    channels, size = len(context), hidden.shape[1]
    narrow, bias, norm, norm_bias, _, _ = layers(flat, who, channels, size)
    mean, variance = 0.0, 0.0
    for h in range(size):
        value = flat.dtype.type(0)
        for c in range(channels):
            value += narrow[h, c] * context[c]
        hidden[0, h] = value + bias[h]
        mean += hidden[0, h] / size
    for h in range(size):
        variance += (hidden[0, h] - mean) ** 2 / size
    hidden[2, 0] = 1 / np.sqrt(variance + eps)
    for h in range(size):
        hidden[0, h] = (hidden[0, h] - mean) * hidden[2, 0]
        value = hidden[0, h] * norm[h] + norm_bias[h]
        hidden[1, h] = value if not value < 0 else 0.0


@inner
def relation_offset(relation, flat, eps, cells, rows, hidden, e):
    """e, which R adds to D at every cell: v_t - v_s of eq. 13, or minus the spatial mean of D ("centred")."""
    channels, size = len(e), hidden.shape[2]
    if relation == CENTRED:
        for c in range(channels):
            e[c] = -rows[SHIFT, c] / cells
    if relation == GC:
        e[:] = 0
        for who in range(2):
            transform(flat, who, rows[CONTEXT_S + who], eps, hidden[who])
            _, _, _, _, widen, bias = layers(flat, who, channels, size)
            sign = 2 * who - 1  # v_t - v_s
            for c in range(channels):
                value = flat.dtype.type(0)
                for h in range(size):
                    value += widen[c, h] * flat.dtype.type(hidden[who, 1, h])
                e[c] += sign * (value + bias[c])


@inner
def transform_gradient(flat, of_flat, who, context, hidden, g, of_context):
    """From the gradient ``g`` (C,) of v: of the parameters, added to ``of_flat``, and of the context."""
    channels, size = len(context), hidden.shape[1]
    back = np.zeros(size)
    narrow, _, norm, _, widen, _ = layers(flat, who, channels, size)
    of_narrow, of_bias, of_norm, of_norm_bias, of_widen, of_widen_bias = layers(of_flat, who, channels, size)
    for c in range(channels):
        for h in range(size):
            of_widen[c, h] += g[c] * hidden[1, h]
            back[h] += g[c] * widen[c, h]
        of_widen_bias[c] += g[c]
    mean, along = 0.0, 0.0
    for h in range(size):
        through = back[h] if not hidden[1, h] <= 0 else 0.0  # ReLU
        of_norm[h] += through * hidden[0, h]
        of_norm_bias[h] += through
        back[h] = through * norm[h]
        mean += back[h] / size
        along += back[h] * hidden[0, h] / size
    of_context[:] = 0
    for h in range(size):
        through = (back[h] - mean - hidden[0, h] * along) * hidden[2, 0]
        of_bias[h] += through
        for c in range(channels):
            of_narrow[h, c] += through * context[c]
            of_context[c] += through * narrow[h, c]


# ---- backward ---

def backward_terms(
    table, g, mix, inverse_t, relation, weights, by_cell, by_channel, hidden, factors, scalars, of_weights,
):
    """From gradients of the terms ``g`` (L, 4): ``factors`` (L, N, 5, C), ``scalars`` (L, N, 3), gradients of R.

    The scalars: mean of sign A^S, then g_context . context of both networks.
    """
    images, channels = by_cell.shape[0], by_channel.shape[3]
    of_e = np.empty(channels)
    of_weights[:] = 0
    for level in range(len(g)):
        cells, column = table[level, CELLS], table[level, COLUMN]
        of_attention, of_global = g[level, 2] / images, g[level, 3] / images
        for image in range(images):
            rows, out, numbers = by_channel[level, image], factors[level, image], scalars[level, image]
            numbers[:] = 0
            for i in range(column, column + cells):  # eq. 10 through the softmax of eq. 7, see sign_of
                numbers[0] += sign_of(by_cell[image, A_S, i] - by_cell[image, A_T, i]) * by_cell[image, A_S, i] / cells
            mean = 0.0
            for c in range(channels):
                mean += sign_of(rows[A_S, c] - rows[A_T, c]) * rows[A_S, c] / channels
            for c in range(channels):
                sign = sign_of(rows[A_S, c] - rows[A_T, c]) - mean
                out[WEIGHT, c] = mix[0] * rows[A_S, c] + mix[1] * rows[A_T, c]
                out[BY_CHANNEL, c] = of_attention * inverse_t / cells * rows[A_S, c] * sign
                out[OFFSET, c] = -2 * of_global * rows[E, c]
                out[G_CONTEXT_S, c], out[G_CONTEXT_T, c] = 0, 0
                of_e[c] = -2 * of_global * (rows[SHIFT, c] + cells * rows[E, c])  # of v_s; e = v_t - v_s
            if relation == GC:
                for who in range(2):
                    context, of_context = rows[CONTEXT_S + who], out[G_CONTEXT_S + who]
                    transform_gradient(
                        weights[level], of_weights[level], who, context, hidden[level, image, who], of_e, of_context)
                    of_e *= -1  # of v_t
                    for c in range(channels):
                        numbers[1 + who] += of_context[c] * context[c]


@inner
def sign_of(value):
    """-1, 0 or 1. The gradient of |A_s - A_t| with respect to the logits of A_s: A_s (sign - mean of sign A_s)."""
    return (value > 0) - (value < 0)


@inner
def rows_per_cell(image, column, cells, g, mix, inverse_t, fg, bg, by_cell, mean, rows):
    """The factors per cell of a tile: A^S (g_fg fg + g_bg bg), g_cell / C, w of S; and zeros for dl of both."""
    kind, images = rows.dtype.type, by_cell.shape[0]
    g_fg, g_bg, of_attention = kind(2 * g[0] / images), kind(2 * g[1] / images), kind(g[2] / images * inverse_t)
    mix_s, mix_t, mean = kind(mix[0]), kind(mix[1]), kind(mean)
    for i in range(cells):
        a_s, a_t = by_cell[image, A_S, column + i], by_cell[image, A_T, column + i]
        rows[i + FOCAL] = (mix_s * a_s + mix_t * a_t) * (g_fg * fg[image, column + i] + g_bg * bg[image, column + i])
        rows[i + SIGN] = of_attention * a_s * (kind(sign_of(a_s - a_t)) - mean)
        rows[i + SOFTMAX_S], rows[i + DL_S], rows[i + DL_T] = by_cell[image, W_S, column + i], kind(0), kind(0)


@inner
def add_context_products(s, t, cells, factors, rows):
    for c in range(factors.shape[1]):
        s_row, t_row = channel_of(s, c, cells), channel_of(t, c, cells)
        if c + AHEAD < factors.shape[1]:
            prefetch_channel(s, c + AHEAD, cells)
            prefetch_channel(t, c + AHEAD, cells)
        g_s, g_t = factors[G_CONTEXT_S, c], factors[G_CONTEXT_T, c]
        for i in range(cells):
            rows[i + DL_S] += g_s * s_row[i]
            rows[i + DL_T] += g_t * t_row[i]


@inner
def write_tile(out, s, t, cells, squares, factors, keys, rows, of_keys):
    """The gradient of S on a tile, and the tile's part of the gradients of W_k, ``of_keys`` (2, C)."""
    zero, one = rows.dtype.type(0), rows.dtype.type(1)
    for c in range(factors.shape[1]):
        s_row, t_row, out_row = channel_of(s, c, cells), channel_of(t, c, cells), channel_of(out, c, cells)
        weight, offset, by_channel = factors[WEIGHT, c], factors[OFFSET, c], factors[BY_CHANNEL, c]
        g_context, key_s = factors[G_CONTEXT_S, c], keys[0, c]
        of_key_s, of_key_t = zero, zero
        for i in range(cells):
            x, y = s_row[i], t_row[i]
            sign = (one if x > zero else zero) - (one if x < zero else zero)
            value = (x - y) * (weight * rows[i + FOCAL] + squares)  # -2 (A^C A^S (..) + g_squares) D
            value += sign * (rows[i + SIGN] + by_channel) + offset  # + sign(S) (..) - g_shift
            out_row[i] = value + g_context * rows[i + SOFTMAX_S] + key_s * rows[i + DL_S]  # + g_context w + W_k dl
            of_key_s += rows[i + DL_S] * x  # of W_k: sum_hw dl F
            of_key_t += rows[i + DL_T] * y
        of_keys[0, c], of_keys[1, c] = of_key_s, of_key_t


def backward_tiles(
    first, last, scratch, table, fg, bg, keys, g, mix, inverse_t, relation, wide, by_cell, factors, scalars, of_keys,
):
    images, channels, kind, scratch = by_cell.shape[0], factors.shape[3], scratch.dtype.type, cache_aligned(scratch)
    rows, copies = scratch[:ROWS], channels * WIDE
    copy_s, copy_t = scratch[ROWS:ROWS + copies], scratch[ROWS + copies:ROWS + 2 * copies]
    copy_out = scratch[ROWS + 2 * copies:]
    for tile in range(first, last):
        level, image, start, cells = position_of(tile, table, wide)
        layout = table[level, OUT_MAP:CELLS]
        if layout[0] == 0:
            continue
        s = tile_of(table[level, S_MAP:T_MAP], image, start, cells, channels, copy_s)
        t = tile_of(table[level, T_MAP:OUT_MAP], image, start, cells, channels, copy_t)
        column, of_channel, numbers = table[level, COLUMN] + start, factors[level, image], scalars[level, image]
        rows_per_cell(image, column, cells, g[level], mix, inverse_t, fg, bg, by_cell, numbers[0], rows)
        if relation == GC:
            add_context_products(s, t, cells, of_channel, rows)
            product_s, product_t = kind(numbers[1]), kind(numbers[2])
            for i in range(cells):  # dl = w (g . F - g . context)
                rows[i + DL_S] = by_cell[image, W_S, column + i] * (rows[i + DL_S] - product_s)
                rows[i + DL_T] = by_cell[image, W_T, column + i] * (rows[i + DL_T] - product_t)
        squares, flat = kind(2 * g[level, 3] / images), at_address(layout[0], scratch)
        place = image * layout[1] + start * layout[3]
        out = (flat, place, layout[2]) if layout[3] == 1 else (copy_out, 0, WIDE)
        write_tile(out, s, t, cells, squares, of_channel, keys[level], rows, of_keys[tile])
        if layout[3] != 1:
            from_rows(copy_out, flat, place, layout[2], layout[3], cells, channels)


def sum_key_gradients(table, of_keys, of_weights):
    """The gradients of both W_k over the tiles of a level, into the row of its weights."""
    for level in range(len(of_weights)):
        row = of_weights[level]
        for who in range(2 if len(row) else 0):
            for c in range(of_keys.shape[2]):
                value = 0.0
                for tile in range(table[level, TILE], table[level + 1, TILE]):
                    value += of_keys[tile, who, c]
                row[who * (len(row) // 2) + c] = value


# ---- not compiled ---

def array(rows: list[list], kind: str) -> np.ndarray:
    return np.array(rows, kind)


def empty(kind: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.empty(shape, kind) for shape in shapes]


def keys_of(weights: np.ndarray, channels: int) -> np.ndarray:
    """W_k of both networks of all levels, (L, 2, C), which stand first in a block's weights; zeros without blocks."""
    levels, values = weights.shape
    if not values:
        return np.zeros((levels, 2, channels), weights.dtype)
    return weights.reshape(levels, 2, -1)[:, :, :channels].copy()


def mask_rows(masks: list | None, shape: tuple[int, int], kind: str) -> list[np.ndarray]:
    if masks is None:
        return [np.zeros(shape, kind) for _ in range(2)]
    parts = ([each.fg for each in masks], [each.bg for each in masks])
    return [np.concatenate([each.numpy().reshape(shape[0], -1) for each in part], axis=1, dtype=kind) for part in parts]


# ---- compiled ---

@cache
def compiled(dtype: str) -> SimpleNamespace:
    """The five loops for "float32" or "float64", compiled on first use and cached on disk."""
    functions = (forward_tiles, finish_terms, backward_terms, backward_tiles, sum_key_gradients)
    return SimpleNamespace(**{each.__name__: compile_cached(each, dtype, **OPTIONS) for each in functions})


def compile_cached(function: FunctionType, kind: str, **options):
    """Cached under a name of its own: processes may mix up two kinds under one name."""
    copy = FunctionType(function.__code__, function.__globals__, f"{function.__name__}_{kind}")
    copy.__qualname__ = copy.__name__
    try:
        return njit(cache=True, **options)(copy)
    except RuntimeError:  # no writable cache folder: each process compiles
        return njit(**options)(copy)
