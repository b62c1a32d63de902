"""Memory and operations of a training step that is not run: torch's own trackers, on fake tensors and a fake world.

The one place that touches the private parts of torch that this needs: the memory trackers of
`torch.distributed._tools`, fake tensors, the fake process group, the formulas of the FLOP counter, and how a
collective names its group.

:mod:`fakes` has a world and tensors of no substance, :mod:`memory` tracks bytes, :mod:`operators` lists what runs, with
its :mod:`flops`, and :mod:`tracing` does all that to a model.
"""
