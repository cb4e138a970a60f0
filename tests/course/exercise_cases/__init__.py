"""Right answers and near misses of the exercises, one file per notebook, named like its module in course/exercises.

RIGHT: {exercise: answer}. NEAR_MISSES: {exercise: {what is wrong with it: answer}}.
"""
