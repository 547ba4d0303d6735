"""The words of the simulated tabletop: categories, colours, and words that name nothing on it."""

CATEGORIES: tuple[str, ...] = (
    "mug", "bowl", "plate", "bottle", "can", "vase", "goblet", "teapot",
    "pan", "ball", "cube", "cone", "ring", "star", "heart", "apple",
    "pear", "banana", "carrot", "mushroom", "hammer", "screwdriver", "wrench", "spoon",
    "scissors", "key", "book", "die", "candle", "gear", "duck", "hat",
)  # fmt: skip

# sRGB in 0..1: centre of each colour; scenes jitter around it (see scene.py).
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.82, 0.08, 0.08),
    "orange": (0.96, 0.47, 0.04),
    "yellow": (0.95, 0.86, 0.10),
    "green": (0.10, 0.58, 0.14),
    "cyan": (0.10, 0.80, 0.82),
    "blue": (0.10, 0.20, 0.80),
    "purple": (0.48, 0.12, 0.62),
    "pink": (0.96, 0.52, 0.70),
    "brown": (0.42, 0.23, 0.09),
    "white": (0.94, 0.94, 0.94),
    "gray": (0.48, 0.48, 0.48),
    "black": (0.06, 0.06, 0.06),
}

RELATIONS: tuple[str, ...] = ("left of", "right of", "in front of", "behind")

# Things that are never on the table: a phrase with one of them is always false.
ABSENT_NOUNS: tuple[str, ...] = (
    "laptop", "phone", "chair", "table", "lamp", "dog", "cat", "horse", "elephant", "car", "truck", "bicycle",
    "shoe", "sock", "shirt", "umbrella", "backpack", "guitar", "piano", "drum", "clock", "watch", "pencil", "pen",
    "eraser", "ruler", "stapler", "keyboard", "mouse", "monitor", "camera", "remote", "pillow", "blanket", "towel",
    "soap", "toothbrush", "comb", "mirror", "window", "door", "tree", "flower", "grass", "cloud", "sandwich",
    "pizza", "burger", "cake", "cookie", "cheese", "tomato", "potato", "onion", "pepper", "cucumber", "broccoli",
    "grape", "strawberry", "pineapple", "melon", "cherry", "airplane", "boat", "train", "robot", "doll", "kite",
    "skateboard", "tent", "bucket", "ladder", "rope", "nail", "screw", "saw", "drill", "pliers", "axe", "shovel",
    "broom", "sponge", "tray", "basket", "box", "bag", "wallet", "coin", "ticket", "map", "flag", "bell", "whistle",
    "person", "hand", "face", "unicorn", "dragon", "tiger", "lion", "rabbit", "frog", "fish", "shark", "whale",
    "penguin", "owl", "eagle", "butterfly", "spider", "glove", "scarf", "belt", "crown", "sword", "shield",
)  # fmt: skip
