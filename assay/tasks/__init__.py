"""What is asked: tasks of text classification, from files, from the hub, or planted with a known answer."""

from assay.tasks.base import Source, Task, load_task, stratified

__all__ = ["Source", "Task", "load_task", "stratified"]
