# %% M.1
def accuracy_of(net, x, y):
    "Share of right answers; asked in the middle of training"
    with kept(net), torch.no_grad(): return (net.eval()(x).argmax(1) == y).float().mean()
# note: `net.train()` wakes every module inside, finished stages too: from the second epoch on their running statistics
# note: drift, and the trainer's care is undone by the measurement. The tempting repair keeps `net.training` and restores it
# note: with `net.train(was)`, which again speaks to all modules; the check says so. Noting `m.training` of every module and
# note: putting it back is as good as `kept`. The second fault is that no `no_grad` stands around the forward pass.

# %% M.2
def remembering(net, stage):
    "A function that gives taps and computes none twice"
    memory = {}
    @torch.no_grad()
    def tap(idx, view, x):
        new = [k for k, i in enumerate(idx.tolist()) if (i, view) not in memory]
        if new: memory.update(zip([(int(idx[k]), view) for k in new], net.forward_to(x[new], stage)))
        return torch.stack([memory[i, view] for i in idx.tolist()])
    return tap
# note: The key names a batch by its first image and its size. In another order another batch begins with the same image
# note: and gets the hints of strangers. A key of all the batch's images is right but never found again, so that nothing is
# note: gained; the check counts what goes through the network. The unit of memory is one image in one view.

# %% M.3
def hint(teacher, stage, x, own, theirs):
    "The teacher's tap for the images that the student sees as `x`"
    (own_mean, own_std), (mean, std) = own, theirs
    images = x*own_std + own_mean
    with torch.no_grad(): return teacher.eval().forward_to((images - mean)/std, stage)
# note: The images were normalized twice. The usual slips, each with words of its own: undone in the wrong order, not
# note: normalized again for the teacher, the pairs swapped, and doing it in place, which changes what the student sees.

# %% M.4
def fair_runs(make_student, methods, seed):
    "name -> what the method returned; all begin alike"
    torch.manual_seed(seed)
    first, results = make_student(), {}
    for name, method in methods.items():
        student = copy.deepcopy(first)
        torch.manual_seed(seed)
        results[name] = method(student)
    return results
# note: Two faults. `copy.copy` gives a new network of the same tensors, so that each method begins where the one before it
# note: ended. And even with equal weights the second method finds another random state and draws its images in another
# note: order. Making each student anew after setting the seed again is as good.

# %% M.5
def split(x, y, share, seed):
    "((images, labels) to learn from, (images, labels) held out)"
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    held_out, rest = order[:round(share*len(x))], order[round(share*len(x)):]
    return (torch.cat([x[rest], x[rest].flip(-1)]), torch.cat([y[rest], y[rest]])), (x[held_out], y[held_out])
# note: Mirrored first and split afterwards, most held-out images have their twin among those to learn from. The rule: split
# note: by what is independent (the photograph, the patient, the day), and augment last. Dropping the mirror images altogether
# note: has no leak either, but it is not what the function is for.
