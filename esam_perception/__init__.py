"""esam_perception: text-queried perception for robots (BLIP image-text matching + EfficientSAM).

Importing this package imports neither torch nor rclpy; both are imported by the modules that need them.
"""

from pkgutil import extend_path

# The messages are generated into an installed `esam_perception` of their own. When this source tree is first on
# sys.path (pytest from the repository), `esam_perception.msg` is found there only through the extended path.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
