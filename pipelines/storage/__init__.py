"""Files on this machine and in S3, under one set of functions.

Other packages ask this one for everything; which module a function is in concerns nobody else.
"""

from pipelines.storage.files import (
    Pending,
    check_writable,
    copy,
    delete,
    exists,
    makedirs,
    open_read,
    put_atomic,
    read_bytes,
    reading,
    size,
    stat_file,
    sweep_temporaries,
    temporary_name,
    write_atomic,
)
from pipelines.storage.listing import (
    S3_PAGE,
    check_readable,
    is_dir,
    list_tree,
)
from pipelines.storage.uri import (
    PRIVATE_FOLDER,
    FileInfo,
    StorageDenied,
    StorageError,
    StorageNotFound,
    is_remote,
    is_within,
    join,
    local_path,
    parent,
    s3_filesystem,
)

__all__ = [
    "PRIVATE_FOLDER",
    "S3_PAGE",
    "FileInfo",
    "Pending",
    "StorageDenied",
    "StorageError",
    "StorageNotFound",
    "check_readable",
    "check_writable",
    "copy",
    "delete",
    "exists",
    "is_dir",
    "is_remote",
    "is_within",
    "join",
    "list_tree",
    "local_path",
    "makedirs",
    "open_read",
    "parent",
    "put_atomic",
    "read_bytes",
    "reading",
    "s3_filesystem",
    "size",
    "stat_file",
    "sweep_temporaries",
    "temporary_name",
    "write_atomic",
]
