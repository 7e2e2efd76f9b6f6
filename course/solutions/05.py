# %% 5.1
guess = 9
# note: Three batch norms with three buffers each: running_mean, running_var, num_batches_tracked. The usual guess is 0; a 6 forgets the counter.
# note: Let the class say which of the nine a resumed run would notice, and which a cache.

# %% 5.2
def freeze(net, k):
    "Stage k of net learns, all else stands still"
    for name, part in [*net.stages.items(), ('head', net.head)]: part.train(name == k).requires_grad_(name == k)
    for p in net.parameters(): p.grad = None
# note: The common wrong answer leaves out the last line; the second commonest forgets that stage k itself was frozen a moment ago.
# note: `net.zero_grad()` of PyTorch 2 sets None and is as good as the loop; with set_to_none=False it is the bug.

# %% 5.3
guess = 2.6
# note: About 55 million multiply-adds for the teacher's two stages forward and twice that backward, about 12 for the student's part, which does not change: (3*55 + 12)/(55 + 12).

# %% 5.4
def train_one(student, adapter, teacher, stage, batches, epochs):
    for name, m in student.stages.items(): m.requires_grad_(name == stage)
    student.eval()
    opt = torch.optim.AdamW([*student.stages[stage].parameters(), *adapter.parameters()], lr=1e-2)
    for epoch in range(epochs):
        student.stages[stage].train()
        for images in batches:
            with torch.no_grad(): hint = teacher.forward_to(images, stage)
            loss = mimic_nmse(adapter(student.forward_to(images, stage)), hint)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
    return loss.item()
# note: The adapter was in no optimizer, and `student.train()` in each epoch undid the `eval()` above: a fit loop that calls `model.train()` does the same if you freeze before the fit.
# note: Neither shows in the loss, which falls in both versions. That is the point.

# %% 5.5
def what_moved(net, action):
    "Names of the parts of net that action() has changed"
    def look(): return {name: {k: v.clone() for k, v in part.state_dict().items()} for name, part in [*net.stages.items(), ('head', net.head)]}
    before = look()
    action()
    after = look()
    return [name for name in before if any(not torch.equal(v, after[name][k]) for k, v in before[name].items())]
# note: `fingerprint(part)` before and after is shorter and as good. Without `clone()` nothing is ever noticed; with `allclose` the single bit is not; with `parameters()` no buffer is.
