"""What a backend implements, and nothing of how taskq uses it.

A plugin imports from here, from `taskq.clock`, `taskq.errors`, `taskq.names`,
`taskq.url` and `taskq.plugins`; from nowhere else. Start reading with
`taskq.contract.broker`.
"""

from typing import Final

CONTRACT: Final = 1
"""The number of this contract. A plugin written for another one is refused."""
