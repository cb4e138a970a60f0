"""Triton kernels of the fused loss. Importing this file needs Triton; only launch.py and masks.py do.

A program reads a tile: CELLS cells of one image, all channels, CHANNELS at a time. Sums per channel go to a row per
tile, and torch adds the rows: no two programs write to one place, so equal inputs give equal bits. Sums run in DTYPE.

    F (N, C, HW) = S, T     g (HW) = sum_c |F|     D = T - S     w = softmax(W_k F) of eq. 13
"""
import triton
import triton.language as tl


@triton.jit
def block(maps, image, channel, cell, by_image, by_channel, by_cell, inside, DTYPE: tl.constexpr):
    """F at some channels and cells of an image, (CHANNELS, CELLS); 0 off the map. ``by_*`` are the map's strides."""
    place = maps + image * by_image + channel[:, None] * by_channel + cell[None] * by_cell
    return tl.load(place, mask=inside, other=0.0).to(DTYPE)


@triton.jit
def row_of(values, row, width, index, real):
    """Row ``row`` of a matrix with rows of ``width`` values, at ``index``; 0 where it is not real."""
    return tl.load(values + row * width + index, mask=real, other=0.0)


@triton.jit
def tile_of(hw, CELLS: tl.constexpr):
    """Of this program: the tile, the image, the tile's cells, and which of them lie on the map."""
    tile = tl.program_id(0)
    cell = tile * CELLS + tl.arange(0, CELLS)
    return tile, tl.program_id(1).to(tl.int64), cell, cell < hw


@triton.jit
def both(
    student, teacher, image, start, cell, on_map, c, s_n, s_c, s_p, t_n, t_c, t_p,
    CHANNELS: tl.constexpr, DTYPE: tl.constexpr,
):
    """CHANNELS channels from ``start``, which of them exist, which places are inside, and S and T there."""
    channel = start + tl.arange(0, CHANNELS)
    real = channel < c
    inside = real[:, None] & on_map[None]
    s = block(student, image, channel, cell, s_n, s_c, s_p, inside, DTYPE)
    t = block(teacher, image, channel, cell, t_n, t_c, t_p, inside, DTYPE)
    return channel, real, inside, s, t


@triton.jit
def first_read(
    student, teacher, key_s, key_t, cells_out, channels_out, c, hw, tiles, s_n, s_c, s_p, t_n, t_c, t_p,
    CHANNELS: tl.constexpr, CELLS: tl.constexpr, DTYPE: tl.constexpr,
):
    """cells_out (N, 4, HW): sums over channels of |S|, |T|, W_k S, W_k T.

    channels_out (N, tiles, 4, C): sums over the tile's cells of |S|, |T|, D, D^2.
    """
    tile, image, cell, on_map = tile_of(hw, CELLS)
    g_s, g_t = tl.zeros([CELLS], DTYPE), tl.zeros([CELLS], DTYPE)
    logit_s, logit_t = tl.zeros([CELLS], DTYPE), tl.zeros([CELLS], DTYPE)
    for start in range(0, c, CHANNELS):
        channel, real, inside, s, t = both(
            student, teacher, image, start, cell, on_map, c, s_n, s_c, s_p, t_n, t_c, t_p, CHANNELS, DTYPE)
        k_s, k_t = row_of(key_s, 0, c, channel, real).to(DTYPE), row_of(key_t, 0, c, channel, real).to(DTYPE)
        d = t - s
        g_s += tl.sum(tl.abs(s), axis=0)  # C G^S of eq. 5
        g_t += tl.sum(tl.abs(t), axis=0)
        logit_s += tl.sum(k_s[:, None] * s, axis=0)  # W_k F of eq. 13
        logit_t += tl.sum(k_t[:, None] * t, axis=0)
        row = channels_out + (image * tiles + tile) * 4 * c + channel
        tl.store(row, tl.sum(tl.abs(s), axis=1), mask=real)  # HW G^C of eq. 6, this tile's part
        tl.store(row + c, tl.sum(tl.abs(t), axis=1), mask=real)
        tl.store(row + 2 * c, tl.sum(d, axis=1), mask=real)      # shift
        tl.store(row + 3 * c, tl.sum(d * d, axis=1), mask=real)  # squares
    place = cells_out + image * 4 * hw + cell
    tl.store(place, g_s, mask=on_map)
    tl.store(place + hw, g_t, mask=on_map)
    tl.store(place + 2 * hw, logit_s, mask=on_map)
    tl.store(place + 3 * hw, logit_t, mask=on_map)


@triton.jit
def second_read(
    student, teacher, weights, a_channel, focal_out, contexts_out, c, hw, tiles, s_n, s_c, s_p, t_n, t_c, t_p,
    CHANNELS: tl.constexpr, CELLS: tl.constexpr, DTYPE: tl.constexpr,
):
    """weights (N, 4, HW): fg A^S, bg A^S, w of S, w of T.

    focal_out (N, tiles, 2): eq. 9 on the tile.  contexts_out (N, tiles, 2, C): sum w F on the tile.
    """
    tile, image, cell, on_map = tile_of(hw, CELLS)
    weights += image * 4 * hw
    fg, bg = row_of(weights, 0, hw, cell, on_map), row_of(weights, 1, hw, cell, on_map)
    w_s, w_t = row_of(weights, 2, hw, cell, on_map), row_of(weights, 3, hw, cell, on_map)
    error = tl.zeros([CELLS], DTYPE)
    for start in range(0, c, CHANNELS):
        channel, real, inside, s, t = both(
            student, teacher, image, start, cell, on_map, c, s_n, s_c, s_p, t_n, t_c, t_p, CHANNELS, DTYPE)
        a = row_of(a_channel, image, c, channel, real)
        d = t - s
        error += tl.sum(a[:, None] * d * d, axis=0)  # sum_c A^C D^2
        row = contexts_out + (image * tiles + tile) * 2 * c + channel
        tl.store(row, tl.sum(w_s[None] * s, axis=1), mask=real)  # context of eq. 13, this tile's part
        tl.store(row + c, tl.sum(w_t[None] * t, axis=1), mask=real)
    row = focal_out + (image * tiles + tile) * 2
    tl.store(row, tl.sum(fg * error, axis=0))  # eq. 9, this tile's part
    tl.store(row + 1, tl.sum(bg * error, axis=0))


@triton.jit
def gradient(
    student, teacher, out, of_cells, of_channels, keys_out, c, hw, tiles, s_n, s_c, s_p, t_n, t_c, t_p, o_n, o_c, o_p,
    CHANNELS: tl.constexpr, CELLS: tl.constexpr, DTYPE: tl.constexpr, KEYS: tl.constexpr,
):
    """The gradients as at the head of cpu/loops.py.

    of_cells (N, 4, HW): A^S (g_fg fg + g_bg bg), g_cell / C, w of S, w of T.
    of_channels (N, 10, C): A^C, g_squares, g_channel / HW, -g_shift; of both: W_k, g_context, g_context . context.
    keys_out (N, tiles, 2, C): gradients of both W_k on the tile; only with KEYS.
    """
    tile, image, cell, on_map = tile_of(hw, CELLS)
    of_cells += image * 4 * hw
    of_channels += image * 10 * c
    focal, by_cell = row_of(of_cells, 0, hw, cell, on_map), row_of(of_cells, 1, hw, cell, on_map)
    w_s, w_t = row_of(of_cells, 2, hw, cell, on_map), row_of(of_cells, 3, hw, cell, on_map)
    dl_s, dl_t = tl.zeros([CELLS], DTYPE), tl.zeros([CELLS], DTYPE)
    if KEYS:
        for start in range(0, c, CHANNELS):
            channel, real, inside, s, t = both(
                student, teacher, image, start, cell, on_map, c, s_n, s_c, s_p, t_n, t_c, t_p, CHANNELS, DTYPE)
            dl_s += tl.sum(row_of(of_channels, 5, c, channel, real)[:, None] * s, axis=0)  # g_context . F
            dl_t += tl.sum(row_of(of_channels, 8, c, channel, real)[:, None] * t, axis=0)
        dl_s = w_s * (dl_s - tl.load(of_channels + 6 * c))  # dl = w (g . F - g . context)
        dl_t = w_t * (dl_t - tl.load(of_channels + 9 * c))
    for start in range(0, c, CHANNELS):  # the second visit finds the tile in the cache
        channel, real, inside, s, t = both(
            student, teacher, image, start, cell, on_map, c, s_n, s_c, s_p, t_n, t_c, t_p, CHANNELS, DTYPE)
        a_channel, squares = row_of(of_channels, 0, c, channel, real), row_of(of_channels, 1, c, channel, real)
        by_channel, shift = row_of(of_channels, 2, c, channel, real), row_of(of_channels, 3, c, channel, real)
        sign = tl.where(s > 0, 1.0, 0.0) - tl.where(s < 0, 1.0, 0.0)
        g = 2 * (s - t) * (a_channel[:, None] * focal[None] + squares[:, None])  # -2 (A^C A^S (..) + g_squares) D
        g += sign * (by_cell[None] + by_channel[:, None]) + shift[:, None]       # + sign(S) (..) - g_shift
        if KEYS:
            key, upstream = row_of(of_channels, 4, c, channel, real), row_of(of_channels, 5, c, channel, real)
            g += upstream[:, None] * w_s[None] + key[:, None] * dl_s[None]  # + g_context w + W_k dl
            row = keys_out + (image * tiles + tile) * 2 * c + channel
            tl.store(row, tl.sum(dl_s[None] * s, axis=1), mask=real)  # of W_k: sum_hw dl F
            tl.store(row + c, tl.sum(dl_t[None] * t, axis=1), mask=real)
        place = out + image * o_n + channel[:, None] * o_c + cell[None] * o_p
        tl.store(place, g.to(out.dtype.element_ty), mask=inside)


@triton.jit
def divided(x, y):
    """x / y rounded as torch rounds it.

    Triton's own float32 division may be off by one bit, which may move a box by a cell.
    """
    if x.dtype == tl.float64:
        return x / y
    else:
        return tl.div_rn(x, y)


@triton.jit
def rasterise(
    boxes, table, fg, grid_h, grid_w, BOXES: tl.constexpr, CELLS: tl.constexpr, EXTRA: tl.constexpr, SWAP: tl.constexpr,
):
    """S of eq. 3 on the foreground.

    boxes (K, 4); table (N, 4): first box, end of the boxes, height and width of the frame.
    """
    tile, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    cell = tile * CELLS + tl.arange(0, CELLS)
    row, col = (cell // grid_w)[None], (cell % grid_w)[None]
    table += image * 4
    last = tl.load(table + 1)
    frame_h, frame_w = tl.load(table + 2).to(boxes.dtype.element_ty), tl.load(table + 3).to(boxes.dtype.element_ty)
    weight = tl.zeros([CELLS], fg.dtype.element_ty)
    for start in range(tl.load(table), last, BOXES):
        box = start + tl.arange(0, BOXES)
        mine = box < last
        x1, y1 = row_of(boxes, box, 4, 0, mine), row_of(boxes, box, 4, 1, mine)
        x2, y2 = row_of(boxes, box, 4, 2, mine), row_of(boxes, box, 4, 3, mine)
        col0 = tl.floor(divided(x1, frame_w) * grid_w).to(tl.int64)
        row0 = tl.floor(divided(y1, frame_h) * grid_h).to(tl.int64)
        col1 = tl.ceil(divided(x2, frame_w) * grid_w).to(tl.int64) + EXTRA
        row1 = tl.ceil(divided(y2, frame_h) * grid_h).to(tl.int64) + EXTRA
        if SWAP:  # axes "yx"
            col0, row0 = row0, col0
            col1, row1 = row1, col1
        count = tl.maximum((row1 - row0) * (col1 - col0), 1).to(fg.dtype.element_ty)
        in_rows = (row >= row0[:, None]) & (row < row1[:, None])
        in_cols = (col >= col0[:, None]) & (col < col1[:, None])
        of_box = divided(tl.full([BOXES], 1.0, fg.dtype.element_ty), count)  # 1 / (H_r W_r)
        inside = in_rows & in_cols & mine[:, None]
        weight = tl.maximum(weight, tl.max(tl.where(inside, of_box[:, None], 0.0), axis=0))  # the smallest box wins
    tl.store(fg + image * grid_h * grid_w + cell, weight, mask=cell < grid_h * grid_w)
