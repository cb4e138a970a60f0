"""Okabe-Ito's colours by role, the same in every figure; readers who do not tell hues apart lose nothing, since shapes and places say the same."""
TEACHER, STUDENT, DISTILLED, BOX = "#0072B2", "#E69F00", "#009E73", "#D55E00"
