"""Equations 2-14 of FGD as plain Python loops, the reference for the fast code. Slow, and written like the equations.

Images are batches of nested lists of floats: F[k][i][j] is channel k, row i, column j; M[i][j] is a cell.
No tensor, no broadcasting.
"""
from math import ceil, exp, floor, sqrt

# ---- where to look: eqs. 2-4 ----

def cell_range(box, frame, grid, rounding):
    """Rows and columns of box r on the map, half-open; ``authors`` keep one cell past the far edge."""
    (x1, y1, x2, y2), (frame_h, frame_w), (grid_h, grid_w) = box, frame, grid
    extra = {"authors": 1, "exact": 0}[rounding]
    rows = floor(y1 / frame_h * grid_h), ceil(y2 / frame_h * grid_h) + extra
    cols = floor(x1 / frame_w * grid_w), ceil(x2 / frame_w * grid_w) + extra
    return rows, cols


def is_inside(i, j, box_range):
    """(i, j) in r"""
    (top, bottom), (left, right) = box_range
    return top <= i < bottom and left <= j < right


def binary_mask(ranges, grid):
    """M_ij = 1 if (i, j) in any r, else 0    (eq. 2)"""
    return [[1.0 if any(is_inside(i, j, r) for r in ranges) else 0.0 for j in range(grid[1])] for i in range(grid[0])]


def background_count(binary):
    """N_bg = sum_ij (1 - M_ij)    (eq. 4)"""
    return sum(1 - m for row in binary for m in row)


def scale_mask(ranges, grid):
    """S_ij = 1 / (H_r W_r) if (i, j) in r, of the smallest such r; else 1 / N_bg    (eq. 3)"""
    n_bg = background_count(binary_mask(ranges, grid))
    scale = [[0.0] * grid[1] for _ in range(grid[0])]
    for i in range(grid[0]):
        for j in range(grid[1]):
            areas = [(r[0][1] - r[0][0]) * (r[1][1] - r[1][0]) for r in ranges if is_inside(i, j, r)]
            scale[i][j] = 1 / min(areas) if areas else 1 / n_bg
    return scale


def focal_masks(boxes, frame, grid, rounding):
    """M S and (1 - M) S, the weights of the two sums of eq. 9."""
    ranges = [cell_range(box, frame, grid, rounding) for box in boxes]
    binary, scale = binary_mask(ranges, grid), scale_mask(ranges, grid)
    fg = [[m * s for m, s in zip(*rows, strict=True)] for rows in zip(binary, scale, strict=True)]
    bg = [[(1 - m) * s for m, s in zip(*rows, strict=True)] for rows in zip(binary, scale, strict=True)]
    return fg, bg


# ---- how much to look: eqs. 5-8 ----

def g_spatial(F):
    """G^S_ij = 1/C sum_k |F_kij|    (eq. 5)"""
    return [
        [sum(abs(F[k][i][j]) for k in range(len(F))) / len(F) for j in range(len(F[0][0]))] for i in range(len(F[0]))
    ]


def g_channel(F):
    """G^C_k = 1/(HW) sum_ij |F_kij|    (eq. 6)"""
    return [sum(abs(x) for row in channel for x in row) / (len(channel) * len(channel[0])) for channel in F]


def a_spatial(F, T):
    """A^S = H W softmax(G^S / T)    (eq. 7)"""
    powers = [[exp(g / T) for g in row] for row in g_spatial(F)]
    whole = sum(p for row in powers for p in row)
    return [[len(F[0]) * len(F[0][0]) * p / whole for p in row] for row in powers]


def a_channel(F, T):
    """A^C = C softmax(G^C / T)    (eq. 8)"""
    powers = [exp(g / T) for g in g_channel(F)]
    whole = sum(powers)
    return [len(F) * p / whole for p in powers]


# ---- focal distillation: eqs. 9-11 ----

def conv1x1(F, weight, bias):
    """f: every pixel's channels through one matrix."""
    return [
        [
            [bias[o] + sum(weight[o][k] * F[k][i][j] for k in range(len(F))) for j in range(len(F[0][0]))]
            for i in range(len(F[0]))
        ]
        for o in range(len(weight))
    ]


def feature_sum(student, teacher, mask, A_s, A_c):
    """sum_k sum_ij mask_ij A^S_ij A^C_k (F^T_kij - f(F^S)_kij)^2    (one of the two sums of eq. 9, one image)"""
    return sum(
        mask[i][j] * A_s[i][j] * A_c[k] * (teacher[k][i][j] - student[k][i][j]) ** 2
        for k in range(len(teacher)) for i in range(len(mask)) for j in range(len(mask[0]))
    )


def attention_sum(student, teacher, T):
    """l(A^S_t, A^S_s) + l(A^C_t, A^C_s) with l = L1    (eq. 10, one image)"""
    spatial_s, spatial_t = a_spatial(student, T), a_spatial(teacher, T)
    spatial = sum(abs(t - s) for rows in zip(spatial_t, spatial_s, strict=True) for t, s in zip(*rows, strict=True))
    channel = sum(abs(t - s) for t, s in zip(a_channel(teacher, T), a_channel(student, T), strict=True))
    return spatial + channel


# ---- global distillation: eqs. 12-13 ----

def layer_norm(v, gain, shift, epsilon=1e-5):
    """LN: mean 0 and variance 1 over the vector, then gain and shift."""
    mean = sum(v) / len(v)
    variance = sum((x - mean) ** 2 for x in v) / len(v)
    return [(x - mean) / sqrt(variance + epsilon) * g + b for x, g, b in zip(v, gain, shift, strict=True)]


def matrix_times(weight, bias, v):
    """weight v + bias"""
    return [bias[o] + sum(weight[o][k] * v[k] for k in range(len(v))) for o in range(len(weight))]


def relation(F, p):
    """R(F) = F + W_v2 ReLU(LN(W_v1 (sum_j  exp(W_k F_j) / sum_m exp(W_k F_m)  F_j)))    (eq. 13)

    p: the block's parameters as nested lists, e.g. p["key.weight"].
    """
    C, H, W = len(F), len(F[0]), len(F[0][0])
    pixels = [[F[k][i][j] for k in range(C)] for i in range(H) for j in range(W)]               # F_j of every pixel j
    powers = [exp(matrix_times(p["key.weight"], p["key.bias"], pixel)[0]) for pixel in pixels]  # exp(W_k F_j)
    whole = sum(powers)
    context = [sum(e / whole * pixel[k] for e, pixel in zip(powers, pixels, strict=True)) for k in range(C)]
    hidden = matrix_times(p["transform.0.weight"], p["transform.0.bias"], context)  # W_v1
    hidden = [max(x, 0.0) for x in layer_norm(hidden, p["transform.1.weight"], p["transform.1.bias"])]
    v = matrix_times(p["transform.3.weight"], p["transform.3.bias"], hidden)  # W_v2
    return [[[F[k][i][j] + v[k] for j in range(W)] for i in range(H)] for k in range(C)]


def squared_distance(student, teacher):
    """sum (R(F^T) - R(F^S))^2    (eq. 12 before lambda, one image)"""
    return sum(
        (teacher[k][i][j] - student[k][i][j]) ** 2
        for k in range(len(teacher)) for i in range(len(teacher[0])) for j in range(len(teacher[0][0]))
    )


# ---- the whole: eqs. 11 and 14 ----

def fgd(students, teachers, boxes, frames, *, temperature, rounding, align, blocks):
    """The four sums of one level before their coefficients, averaged over the batch.

    students, teachers, boxes, frames: one entry per image. align: (weight, bias) of f, or None. blocks: (student's,
        teacher's) parameters of R.
    """
    sums = dict.fromkeys(("fg", "bg", "attention", "global"), 0.0)
    for student, teacher, of_image, frame in zip(students, teachers, boxes, frames, strict=True):
        student = student if align is None else conv1x1(student, *align)
        fg, bg = focal_masks(of_image, frame, (len(teacher[0]), len(teacher[0][0])), rounding)
        A_s, A_c = a_spatial(teacher, temperature), a_channel(teacher, temperature)
        sums["fg"] += feature_sum(student, teacher, fg, A_s, A_c) / len(teachers)
        sums["bg"] += feature_sum(student, teacher, bg, A_s, A_c) / len(teachers)
        sums["attention"] += attention_sum(student, teacher, temperature) / len(teachers)
        sums["global"] += squared_distance(relation(student, blocks[0]), relation(teacher, blocks[1])) / len(teachers)
    return sums


def total(sums, alpha, beta, gamma, lambda_):
    """L_focal + L_global = (alpha fg + beta bg + gamma attention) + lambda global    (eqs. 11, 12 and 14)"""
    return alpha * sums["fg"] + beta * sums["bg"] + gamma * sums["attention"] + lambda_ * sums["global"]
