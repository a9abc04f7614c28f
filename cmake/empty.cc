// A shared library target needs a source of its own; libllrt is made of the static libraries it links.
