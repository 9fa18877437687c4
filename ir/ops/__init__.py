"""All ops, one file a family. `OPS` in isomorph.ir.op has them by name."""

from isomorph.ir.ops.activation import *  # noqa: F403
from isomorph.ir.ops.attention import *  # noqa: F403
from isomorph.ir.ops.control import *  # noqa: F403
from isomorph.ir.ops.conv import *  # noqa: F403
from isomorph.ir.ops.elementwise import *  # noqa: F403
from isomorph.ir.ops.fold import *  # noqa: F403
from isomorph.ir.ops.index import *  # noqa: F403
from isomorph.ir.ops.indexed_pool import *  # noqa: F403
from isomorph.ir.ops.linear import *  # noqa: F403
from isomorph.ir.ops.norm import *  # noqa: F403
from isomorph.ir.ops.pool import *  # noqa: F403
from isomorph.ir.ops.preserved import *  # noqa: F403
from isomorph.ir.ops.quant import *  # noqa: F403
from isomorph.ir.ops.random import *  # noqa: F403
from isomorph.ir.ops.recurrent import *  # noqa: F403
from isomorph.ir.ops.reduce import *  # noqa: F403
from isomorph.ir.ops.resize import *  # noqa: F403
from isomorph.ir.ops.sample import *  # noqa: F403
from isomorph.ir.ops.select import *  # noqa: F403
from isomorph.ir.ops.shape import *  # noqa: F403
from isomorph.ir.ops.signal import *  # noqa: F403
from isomorph.ir.ops.vision import *  # noqa: F403
