"""Files: atomic writes, hashes, JSON, arrays, pictures and listings of folders."""

from __future__ import annotations

from .atomic import create as create
from .atomic import remove_partials as remove_partials
from .atomic import write as write
from .atomic import writing as writing
from .hashes import file_hash as file_hash
from .hashes import pieces as pieces
from .hashes import sha256 as sha256
from .json_files import dumps as dumps
from .json_files import read_json as read_json
from .tensors import read_tensors as read_tensors
from .tensors import write_tensors as write_tensors
