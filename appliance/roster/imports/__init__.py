"""Import of lists of students into a roster, and export in the form in which they came.

`reading` makes an `Incoming` of a file: `plain` reads spreadsheets and exports of school programs (with `decoding`,
`rows` and `headings`), `packages` reads OneRoster. A `plan` compares it with the roster and says what would change,
line by line; `applying` does that in one transaction, if the roster is still as the plan saw it.
"""
