"""The kernel under its own names: thin and complete wrappers that raise plain OSError with the subject as filename.

No policy here; ctypes lives in this package and nowhere else. After a fork nothing in it imports anything.
"""
