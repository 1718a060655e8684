"""Steps of unequal size: a class at a time, and classes of very unequal numbers of images."""

import images

TINY = {"depth": 8, "epochs": 10, "batch": 32, "lr": 0.02, "lr_later": 0.5, "flip": False, "pad": 2,
        "prune": {"keep": 0.5, "epochs": 0}}
STEPS = [{"red": 40, "green": 40}, {"blue": 5}, {"yellow": 3, "grey": 60}]


def test_unequal_steps(api):
    for number, counts in enumerate(STEPS, 1):
        for label, count in counts.items():
            api.upload(f"{label}", images.tar([label], range(count)))
            api.upload(f"{label}-test", images.tar([label], range(500, 510)), split="test")
        job = api.learn(*counts, **TINY)
        assert job["train_images"] == sum(counts.values())
        epochs = api.get(f"/api/v1/jobs/{job['id']}/metrics").json()["epochs"]
        assert all((e["loss_mmd"] > 0) == (number > 1) for e in epochs if not e["pruned"])
    history = api.get("/api/v1/history").json()
    assert [sum(a is not None for a in row) for row in history["accuracy_matrix"]] == [1, 2, 3]
    # A class of five images, learned alone, is told from those before it, and these from it.
    assert history["accuracy_matrix"][1][0] > 0.6 and history["accuracy_matrix"][1][1] > 0.6
    answers = [api.predict(images.png(label, seed))["predictions"][0]["class"] == label
               for step in STEPS for label in step for seed in range(2000, 2006)]
    assert sum(answers) > len(answers) / 2
