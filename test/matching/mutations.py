"""Where the faults of image_mutations and text_mutations are looked for.

A fault takes (monkeypatch, golden). The tables there say in which goldens, and on which image, each is looked for.
"""

from test.numerics.faults import long

DOGS, PORTRAIT = "lavis_names/dogs_512x384", "portrait/portrait_360x640"
EPS = "eps/dogs_512x384"
# other weights in the image tower alone, by other names: the same code as DOGS
HF = long("hf_names/dogs_512x384")
