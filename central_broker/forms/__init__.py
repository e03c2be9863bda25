"""Forms at the center: what a questionnaire of a form may contain, and which rows of the census tables it becomes.

Without I/O but for `xlsform`, which runs pyxform for a command. Not responsible for storing rows (`storage`).
"""
