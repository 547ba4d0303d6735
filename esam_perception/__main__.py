"""`python -m esam_perception COMMAND`: the same as `esam COMMAND`."""

import sys

from esam_perception.commands.dispatcher import main

sys.exit(main())
